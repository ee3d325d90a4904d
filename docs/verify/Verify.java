// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.spec.ECFieldFp;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Checks records, promises and proofs of Umuhuza with nothing but this file and a Java 17 development kit or newer.
 *
 * <pre>
 * java Verify.java record RECORD PUBLIC-KEY [PART=KEY ...]
 * java Verify.java promise EVIDENCE PUBLIC-KEY DOMAIN [RECORD]
 * java Verify.java receipt RECEIPT RECORD VKEY [VKEY ...]
 * java Verify.java checkpoint CHECKPOINT VKEY [VKEY ...]
 * </pre>
 *
 * <p>RECORD, EVIDENCE, RECEIPT and CHECKPOINT are files; {@code -} in place of RECORD compares with none. Keys are texts,
 * and you have them from somebody you trust, never from the file that you check. Exit status: 0 valid, 1 refused, 2 called
 * wrongly or not readable.
 *
 * <p>Written from docs/wire-format.md and C2SP's signed-note, tlog-checkpoint, tlog-cosignature and tlog-proof, not from
 * the product's code. Everything is refused by throwing {@link Refused} with the product's code and the path of what is
 * wrong, never with a value.
 *
 * <p>Must never: ask the network for anything, write a file, keep a key or a plaintext, take a key from the message.
 */
public final class Verify {
    private Verify() {}

    /** A refusal: the code is stable, the path says where; never what was there. */
    public static final class Refused extends Exception {
        private static final long serialVersionUID = 1L;
        public final String code;
        public final String path;

        public Refused(String code, String path) {
            super(code + " [" + path + "]");
            this.code = code;
            this.path = path;
        }
    }

    private static Refused malformed(String path) {
        return new Refused("record_malformed", path);
    }

    private static Refused badNote(String path) {
        return new Refused("note_malformed", path);
    }

    /** A part of the manifest. */
    public record Part(String name, String sha256, long len, String kc) {}

    /** The signed clear metadata of a record that matter to a reader; {@code all} has every member as it was signed. */
    public record Manifest(String evt, String iss, String to, String topic, String kind, String thread, long seq,
            String prev, long iat, long reg, List<Part> parts, Map<String, Object> all) {}

    /** A record that was checked. {@code digest} is what promises and logs name it by; opened parts keep their padding. */
    public record Checked(Manifest manifest, String kid, String digest, Map<String, byte[]> opened) {}

    /** What a record is known by: the digest of what was signed, and SHA-256 of all its bytes. */
    public record Identity(String evt, String topic, String digest, String sha256) {}

    /** A promise for one record that was checked: which record that is, {@link #isAbout} says. */
    public record Promised(String evt, String digest, String topic, long offset, String iss, long at, String origin) {}

    /** A signature with the time that it states, seconds since 1970, or 0. */
    public record Signer(String name, BigInteger time) {}

    /** A log's head that was checked; {@code unchecked} names keys and signatures of ML-DSA-44, which Java 17 does not know. */
    public record Head(String origin, BigInteger size, byte[] root, List<Signer> cosigned, List<String> unchecked) {}

    /** A ledger's entry, {@code -} where nothing applies; of kind reject its detail is the code of the refusal. */
    public record Entry(String kind, String topic, String offset, String previous, String sha256, String digest,
            String detail) {}

    /** An entry that is in the log under a checkpoint. */
    public record Receipt(Head head, BigInteger index, Entry entry) {}

    // ---------------------------------------------------------------------------------------------------------------
    // Bytes

    static String base64url(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    /** Strict: no padding, no other character, zero in the bits beyond the last byte; else null. */
    static byte[] unbase64url(String text) {
        if (!text.matches("[A-Za-z0-9_-]*") || text.length() % 4 == 1) return null;
        byte[] bytes = Base64.getUrlDecoder().decode(text);
        return base64url(bytes).equals(text) ? bytes : null;
    }

    /** Standard base64 with padding, as strict; else null. */
    static byte[] unbase64(String text) {
        if (!text.matches("[A-Za-z0-9+/]*={0,2}") || text.length() % 4 != 0) return null;
        try {
            byte[] bytes = Base64.getDecoder().decode(text);
            return Base64.getEncoder().encodeToString(bytes).equals(text) ? bytes : null;
        } catch (IllegalArgumentException e) {
            return null;
        }
    }

    static byte[] sha256(byte[]... pieces) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (byte[] piece : pieces) digest.update(piece);
            return digest.digest();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("no SHA-256 here");
        }
    }

    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String latin1(byte[] bytes) {
        return new String(bytes, StandardCharsets.ISO_8859_1);
    }

    private static String decoded(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            return null;
        }
    }

    private static String[] split(String text, char separator) {
        return text.split(Pattern.quote(String.valueOf(separator)), -1);
    }

    // ---------------------------------------------------------------------------------------------------------------
    // Strict JSON (RFC 7493 and less): what two readers could read differently is refused

    /** Not the JSON that is read here: path "" (no such text) or "*" (something in it). */
    private static final class BadJson extends Exception {
        private static final long serialVersionUID = 1L;
        final String path;

        BadJson(String path) {
            super("json");
            this.path = path;
        }
    }

    /** Objects become maps in the order of their members, numbers are integers. */
    private static final class Json {
        private static final Pattern NUMBER = Pattern.compile("-?(?:0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?");
        private static final Pattern CONSTANT = Pattern.compile("NaN|-?Infinity");
        private static final String ESCAPES = "\"\\/bfnrt";
        private static final String ESCAPED = "\"\\/\b\f\n\r\t";
        private static final long MAX_INTEGER = (1L << 53) - 1;
        private final String text;
        private int at;
        private boolean lone;

        private Json(String text) {
            this.text = text;
        }

        static Object parse(byte[] bytes, int maxBytes, int maxDepth) throws BadJson {
            String text = bytes.length > maxBytes || tooDeep(bytes, maxDepth) ? null : decoded(bytes);
            if (text == null) throw new BadJson("");
            Json json = new Json(text);
            json.space();
            Object found = json.value();
            json.space();
            if (json.at != text.length() || json.lone) throw new BadJson("");
            return found;
        }

        private static boolean tooDeep(byte[] bytes, int maxDepth) {
            int depth = 0;
            int opened = 0;
            boolean wrong = false;
            boolean inString = false;
            for (int i = 0; i < bytes.length; i++) {
                if (inString) {
                    if (bytes[i] == '\\') i++;
                    else if (bytes[i] == '"') inString = false;
                } else if (bytes[i] == '"') {
                    inString = true;
                } else if (bytes[i] == '{' || bytes[i] == '[') {
                    opened++;
                    depth++;
                    wrong |= depth > maxDepth;
                } else if (bytes[i] == '}' || bytes[i] == ']') {
                    depth--;
                    wrong |= depth < 0;
                }
            }
            return opened > maxDepth && (wrong || depth != 0);
        }

        private char peek() {
            return at < text.length() ? text.charAt(at) : '\0';
        }

        private void expect(char wanted) throws BadJson {
            if (at >= text.length() || text.charAt(at) != wanted) throw new BadJson("");
            at++;
        }

        private void space() {
            while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) at++;
        }

        private Object value() throws BadJson {
            char first = peek();
            if (first == '"') return string();
            if (first == '{') return members();
            if (first == '[') return elements();
            if (text.startsWith("true", at)) return word(4, Boolean.TRUE);
            if (text.startsWith("false", at)) return word(5, Boolean.FALSE);
            if (text.startsWith("null", at)) return word(4, null);
            if (CONSTANT.matcher(text).region(at, text.length()).lookingAt()) throw new BadJson("*");
            Matcher number = NUMBER.matcher(text).region(at, text.length());
            if (!number.lookingAt()) throw new BadJson("");
            String digits = number.group();
            at = number.end();
            boolean exact = number.group(1) == null && number.group(2) == null && digits.length() <= 17;
            if (!exact || digits.equals("-0") || Math.abs(Long.parseLong(digits)) > MAX_INTEGER) throw new BadJson("*");
            return Long.valueOf(digits);
        }

        private Object word(int length, Object meaning) {
            at += length;
            return meaning;
        }

        private String string() throws BadJson {
            StringBuilder found = new StringBuilder();
            expect('"');
            while (true) {
                if (at >= text.length() || text.charAt(at) < ' ') throw new BadJson("");
                char next = text.charAt(at++);
                if (next == '"') break;
                if (next != '\\') {
                    found.append(next);
                    continue;
                }
                if (at >= text.length()) throw new BadJson("");
                char letter = text.charAt(at++);
                if (letter == 'u') {
                    String digits = text.substring(at, Math.min(at + 4, text.length()));
                    if (!digits.matches("[0-9a-fA-F]{4}")) throw new BadJson("");
                    found.append((char) Integer.parseInt(digits, 16));
                    at += 4;
                } else {
                    int escape = ESCAPES.indexOf(letter);
                    if (escape < 0) throw new BadJson("");
                    found.append(ESCAPED.charAt(escape));
                }
            }
            lone |= found.codePoints().anyMatch(point -> point >= 0xD800 && point <= 0xDFFF);
            return found.toString();
        }

        private Map<String, Object> members() throws BadJson {
            Map<String, Object> found = new LinkedHashMap<>();
            int count = 0;
            expect('{');
            space();
            while (peek() != '}') {
                if (count > 0) {
                    expect(',');
                    space();
                }
                String name = string();
                space();
                expect(':');
                space();
                found.put(name, value());
                count++;
                space();
            }
            at++;
            if (found.size() != count) throw new BadJson("*");
            return found;
        }

        private List<Object> elements() throws BadJson {
            List<Object> found = new ArrayList<>();
            expect('[');
            space();
            while (peek() != ']') {
                if (!found.isEmpty()) {
                    expect(',');
                    space();
                }
                found.add(value());
                space();
            }
            at++;
            return found;
        }
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> object(Object value) {
        return value instanceof Map ? (Map<String, Object>) value : null;
    }

    @SuppressWarnings("unchecked")
    private static List<Object> array(Object value) {
        return value instanceof List ? (List<Object>) value : null;
    }

    // ---------------------------------------------------------------------------------------------------------------
    // The manifest (L1)

    private static final int MAX_RECORD = 900_000;
    private static final int MAX_MANIFEST = 8192;
    private static final int MAX_PADDED = 655_360;
    private static final Map<Integer, Integer> PADDED =
            Map.of(1366, 1024, 5462, 4096, 21846, 16384, 87382, 65536, 349526, 262144);
    private static final Set<String> KINDS = Set.of("request", "answer", "update", "control");
    private static final Set<String> FLOWS = Set.of("referral", "case", "alert", "investigation", "bilateral", "rights",
            "statistics", "directory", "knowledge", "receipt");
    private static final String AGENCY = "[a-z]{2}/[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?";
    private static final String UUID7 = "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
    private static final Pattern TOPIC =
            Pattern.compile("([a-z]{2})\\.([a-z]+)\\.([a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)");
    private static final String HASH = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]";
    private static final List<String> REQUIRED = List.of(
            "evt", "iat", "iss", "kind", "parts", "prev", "reg", "seq", "thread", "to", "topic", "v");
    private static final Set<String> OPTIONAL = Set.of("acts", "agreement", "answer_by", "ref", "training", "voids");
    private static final List<String> PART_MEMBERS = List.of("kc", "len", "name", "sha256");

    private static boolean matches(Object value, String pattern) {
        return value instanceof String text && text.matches(pattern);
    }

    private static boolean atLeast(Object value, long bound) {
        return value instanceof Long number && number >= bound;
    }

    private static String header(String segment, String typ) throws Refused {
        byte[] bytes = unbase64url(segment);
        Map<String, Object> found = null;
        try {
            if (bytes != null) found = object(Json.parse(bytes, 512, 2));
        } catch (BadJson e) {
            throw malformed("L1.header");
        }
        if (found == null) throw malformed("L1.header");
        for (String name : found.keySet()) {
            if (!Set.of("alg", "kid", "typ").contains(name)) throw new Refused("header_forbidden", "L1.header.*");
        }
        if (!"ES256".equals(found.get("alg"))) throw new Refused("header_forbidden", "L1.header.alg");
        if (!typ.equals(found.get("typ"))) throw new Refused("header_forbidden", "L1.header.typ");
        if (!matches(found.get("kid"), "[A-Za-z0-9_-]{22}")) throw new Refused("header_forbidden", "L1.header.kid");
        return (String) found.get("kid");
    }

    private record Line(String kid, byte[] signed, byte[] signature, Manifest manifest) {}

    private static Line readLine(byte[] line) throws Refused {
        if (line.length > MAX_MANIFEST) throw new Refused("too_large", "L1");
        String[] segments = split(latin1(line), '.');
        if (segments.length != 3) throw malformed("L1");
        String kid = header(segments[0], "umuhuza-event+jws");
        byte[] payload = unbase64url(segments[1]);
        if (payload == null) throw malformed("L1.payload");
        byte[] signature = unbase64url(segments[2]);
        if (signature == null || signature.length != 64) throw malformed("L1.signature");
        Map<String, Object> found;
        try {
            found = object(Json.parse(payload, MAX_MANIFEST, 4));
        } catch (BadJson e) {
            throw malformed(e.path.isEmpty() ? "L1" : "L1." + e.path);
        }
        if (found == null) throw malformed("L1.payload");
        byte[] signed = Arrays.copyOf(line, segments[0].length() + 1 + segments[1].length());
        return new Line(kid, signed, signature, manifest(found));
    }

    private static Manifest manifest(Map<String, Object> raw) throws Refused {
        if (!Long.valueOf(1).equals(raw.get("v"))) throw new Refused("version_unsupported", "L1.v");
        for (String name : REQUIRED) if (!raw.containsKey(name)) throw malformed("L1." + name);
        for (String name : raw.keySet()) {
            if (!REQUIRED.contains(name) && !OPTIONAL.contains(name)) throw malformed("L1.*");
        }
        shaped(raw, "evt", UUID7);
        shaped(raw, "iss", AGENCY);
        shaped(raw, "to", AGENCY);
        shaped(raw, "thread", "[A-Za-z0-9_-]{21}[AQgw]");
        shaped(raw, "topic", TOPIC.pattern());
        Matcher topic = TOPIC.matcher((String) raw.get("topic"));
        if (!topic.matches() || !FLOWS.contains(topic.group(2))) throw malformed("L1.topic");
        if (!(topic.group(1) + "/" + topic.group(3)).equals(raw.get("to")))
            throw new Refused("topic_mismatch", "L1.topic");
        if (!(raw.get("kind") instanceof String kind) || !KINDS.contains(kind)) throw malformed("L1.kind");
        long seq = number(raw, "seq", 1);
        Object prev = raw.get("prev");
        if ("".equals(prev) != (seq == 1) || (!"".equals(prev) && !matches(prev, HASH))) throw malformed("L1.prev");
        long iat = number(raw, "iat", 1);
        long reg = number(raw, "reg", 0);
        List<Part> parts = parts(array(raw.get("parts")));
        if (raw.containsKey("acts")) checkActs(object(raw.get("acts")), kind);
        if (raw.containsKey("training") && !Boolean.TRUE.equals(raw.get("training"))) throw malformed("L1.training");
        if (raw.containsKey("ref")) shaped(raw, "ref", UUID7);
        if (raw.containsKey("voids")) checkVoids(array(raw.get("voids")), seq);
        if (raw.containsKey("answer_by")) number(raw, "answer_by", 1);
        if (raw.containsKey("agreement")) shaped(raw, "agreement", "[a-z0-9][a-z0-9-]{0,60}");
        return new Manifest((String) raw.get("evt"), (String) raw.get("iss"), (String) raw.get("to"),
                (String) raw.get("topic"), kind, (String) raw.get("thread"), seq, (String) prev, iat, reg, parts, raw);
    }

    private static void shaped(Map<String, Object> raw, String name, String pattern) throws Refused {
        if (!matches(raw.get(name), pattern)) throw malformed("L1." + name);
    }

    private static long number(Map<String, Object> raw, String name, long bound) throws Refused {
        if (!atLeast(raw.get(name), bound)) throw malformed("L1." + name);
        return (Long) raw.get(name);
    }

    private static List<Part> parts(List<Object> raw) throws Refused {
        if (raw == null || raw.size() < 2 || raw.size() > 32) throw malformed("L1.parts");
        List<Part> parts = new ArrayList<>();
        for (int i = 0; i < raw.size(); i++) {
            String path = "L1.parts[" + i + "]";
            Map<String, Object> part = object(raw.get(i));
            if (part == null) throw malformed(path);
            for (String name : PART_MEMBERS) if (!part.containsKey(name)) throw malformed(path + "." + name);
            if (part.size() != PART_MEMBERS.size()) throw malformed(path + ".*");
            if (!matches(part.get("name"), "[a-z][a-z0-9-]{0,30}")) throw malformed(path + ".name");
            if (!matches(part.get("sha256"), HASH)) throw malformed(path + ".sha256");
            if (!matches(part.get("kc"), HASH)) throw malformed(path + ".kc");
            if (!atLeast(part.get("len"), 1)) throw malformed(path + ".len");
            parts.add(new Part((String) part.get("name"), (String) part.get("sha256"), (Long) part.get("len"),
                    (String) part.get("kc")));
        }
        if (!parts.get(0).name().equals("identity") || !parts.get(1).name().equals("content"))
            throw malformed("L1.parts");
        Set<String> names = new HashSet<>();
        for (int i = 0; i < parts.size(); i++) {
            if (!names.add(parts.get(i).name())) throw malformed("L1.parts[" + i + "].name");
        }
        return parts;
    }

    private static void checkActs(Map<String, Object> raw, String kind) throws Refused {
        if (!kind.equals("control") || raw == null || raw.isEmpty() || !Set.of("erase", "grant").containsAll(raw.keySet()))
            throw malformed("L1.acts");
        for (Map.Entry<String, Object> act : raw.entrySet()) {
            String path = "L1.acts." + act.getKey();
            List<Object> targets = array(act.getValue());
            if (targets == null || targets.isEmpty() || targets.size() > 50) throw malformed(path);
            Set<String> seen = new HashSet<>();
            for (Object target : targets) if (!seen.add(String.valueOf(target))) throw malformed(path);
            for (int i = 0; i < targets.size(); i++) {
                if (!matches(targets.get(i), AGENCY + "/" + UUID7)) throw malformed(path + "[" + i + "]");
            }
        }
    }

    private static void checkVoids(List<Object> raw, long seq) throws Refused {
        if (raw == null || raw.isEmpty() || raw.size() > 500) throw malformed("L1.voids");
        long last = 0;
        for (int i = 0; i < raw.size(); i++) {
            if (!atLeast(raw.get(i), last + 1) || (Long) raw.get(i) >= seq) throw malformed("L1.voids[" + i + "]");
            last = (Long) raw.get(i);
        }
    }

    // ---------------------------------------------------------------------------------------------------------------
    // Records

    private static ECParameterSpec p256() throws GeneralSecurityException {
        AlgorithmParameters parameters = AlgorithmParameters.getInstance("EC");
        parameters.init(new ECGenParameterSpec("secp256r1"));
        return parameters.getParameterSpec(ECParameterSpec.class);
    }

    /** ES256 (RFC 7518 section 3.4). Range and curve are checked here: not every release of Java 17 does. */
    static boolean es256(byte[] publicKey, byte[] signed, byte[] signature) {
        try {
            if (publicKey.length != 65 || publicKey[0] != 4 || signature.length != 64) return false;
            ECParameterSpec curve = p256();
            BigInteger prime = ((ECFieldFp) curve.getCurve().getField()).getP();
            BigInteger x = new BigInteger(1, Arrays.copyOfRange(publicKey, 1, 33));
            BigInteger y = new BigInteger(1, Arrays.copyOfRange(publicKey, 33, 65));
            BigInteger right = x.pow(3).add(curve.getCurve().getA().multiply(x)).add(curve.getCurve().getB());
            boolean onCurve = x.compareTo(prime) < 0 && y.compareTo(prime) < 0
                    && y.pow(2).subtract(right).mod(prime).signum() == 0;
            if (!onCurve) return false;
            for (int start : new int[] {0, 32}) {
                BigInteger half = new BigInteger(1, Arrays.copyOfRange(signature, start, start + 32));
                if (half.signum() == 0 || half.compareTo(curve.getOrder()) >= 0) return false;
            }
            Signature verifier = Signature.getInstance("SHA256withECDSAinP1363Format");
            verifier.initVerify(KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(new ECPoint(x, y), curve)));
            verifier.update(signed);
            return verifier.verify(signature);
        } catch (GeneralSecurityException e) {
            return false;
        }
    }

    /** A key's id: the first 22 characters of base64url(SHA-256(public key)). */
    public static String kidOf(byte[] publicKey) {
        return base64url(sha256(publicKey)).substring(0, 22);
    }

    /** L1 alone, when the body is gone. Refuses as {@link #verifyRecord}. */
    public static Checked verifyManifest(byte[] line, byte[] publicKey) throws Refused {
        return checked(readLine(line), publicKey, Map.of());
    }

    private static Checked checked(Line line, byte[] publicKey, Map<String, byte[]> opened) throws Refused {
        if (!kidOf(publicKey).equals(line.kid()) || !es256(publicKey, line.signed(), line.signature()))
            throw new Refused("signature_invalid", "L1");
        return new Checked(line.manifest(), line.kid(), base64url(sha256(line.signed())), opened);
    }

    private record Split(Line line, String[] texts) {}

    private static Split splitRecord(byte[] value) throws Refused {
        if (value.length > MAX_RECORD) throw new Refused("too_large", "record");
        String text = latin1(value);
        int newline = text.indexOf('\n');
        String line2 = newline < 0 ? "" : text.substring(newline + 1);
        if (line2.isEmpty() || !line2.chars().allMatch(Verify::inBody)) throw malformed("record");
        Line line = readLine(Arrays.copyOf(value, newline));
        String[] texts = split(line2, '~');
        if (texts.length != line.manifest().parts().size()) throw malformed("L2");
        return new Split(line, texts);
    }

    /** What a record is known by; its shape alone is looked at. */
    public static Identity identify(byte[] value) throws Refused {
        Line line = splitRecord(value).line();
        return new Identity(line.manifest().evt(), line.manifest().topic(), base64url(sha256(line.signed())),
                base64url(sha256(value)));
    }

    /**
     * A whole record.
     *
     * @param value L1 LF L2
     * @param publicKey the sender's, 65 bytes, from the registry
     * @param keys part name to its 32-byte key, for the parts that you may read
     */
    public static Checked verifyRecord(byte[] value, byte[] publicKey, Map<String, byte[]> keys) throws Refused {
        Split read = splitRecord(value);
        Line line = read.line();
        Manifest manifest = line.manifest();
        String[] texts = read.texts();
        Checked found = checked(line, publicKey, new LinkedHashMap<>());
        int total = 0;
        for (int i = 0; i < texts.length; i++) {
            Part part = manifest.parts().get(i);
            if (texts[i].length() != part.len() || !base64url(sha256(utf8(texts[i]))).equals(part.sha256()))
                throw new Refused("part_digest_mismatch", "L2[" + i + "]");
            total += paddedSize(i, texts[i], manifest);
        }
        if (total > MAX_PADDED) throw new Refused("too_large", "L2");
        for (int i = 0; i < texts.length; i++) {
            String name = manifest.parts().get(i).name();
            if (keys.containsKey(name)) found.opened().put(name, openPart(i, texts[i], keys.get(name)));
        }
        verifyCommitments(manifest, keys);
        return found;
    }

    private static boolean inBody(int c) {
        return c < 128 && (Character.isLetterOrDigit(c) || c == '-' || c == '_' || c == '.' || c == '~');
    }

    private static int paddedSize(int index, String text, Manifest manifest) throws Refused {
        String[] segments = split(text, '.');
        String path = "L2[" + index + "]";
        if (segments.length != 5 || !segments[1].isEmpty()) throw malformed(path);
        String ciphertext = segments[3];
        String tag = segments[4];
        String name = manifest.parts().get(index).name();
        boolean small = manifest.kind().equals("control") || (manifest.kind().equals("answer") && name.equals("identity"));
        int size = PADDED.getOrDefault(ciphertext.length(), 0);
        if (segments[2].length() != 16 || tag.length() != 22 || size == 0 || (size == 1024 && !small))
            throw malformed(path);
        if ("AQgw".indexOf(tag.charAt(21)) < 0 || "AQgw".indexOf(ciphertext.charAt(ciphertext.length() - 1)) < 0)
            throw malformed(path);
        byte[] bytes = unbase64url(segments[0]);
        Object found;
        try {
            if (bytes == null) throw new BadJson("");
            found = Json.parse(bytes, 512, 2);
        } catch (BadJson e) {
            throw malformed(path + ".header");
        }
        String kid = manifest.iss() + "/" + manifest.evt() + "/" + name;
        if (!Map.of("alg", "dir", "enc", "A256GCM", "kid", kid, "typ", "umuhuza-part+jwe").equals(found))
            throw new Refused("header_forbidden", path + ".header");
        return size;
    }

    private static byte[] openPart(int index, String text, byte[] key) throws Refused {
        String[] segments = split(text, '.');
        byte[] iv = unbase64url(segments[2]);
        byte[] ciphertext = unbase64url(segments[3]);
        byte[] tag = unbase64url(segments[4]);
        if (iv == null || ciphertext == null || tag == null) throw malformed("L2[" + index + "]");
        try {
            if (key.length != 32) throw new GeneralSecurityException("size");
            Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
            cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(key, "AES"), new GCMParameterSpec(128, iv));
            cipher.updateAAD(utf8(segments[0]));
            byte[] sealed = Arrays.copyOf(ciphertext, ciphertext.length + tag.length);
            System.arraycopy(tag, 0, sealed, ciphertext.length, tag.length);
            return cipher.doFinal(sealed);
        } catch (GeneralSecurityException e) {
            throw new Refused("part_unopenable", "L2[" + index + "]");
        }
    }

    /** The keys are those that the sender committed to: everybody who was granted a part holds the same key. */
    public static void verifyCommitments(Manifest manifest, Map<String, byte[]> keys) throws Refused {
        for (int i = 0; i < manifest.parts().size(); i++) {
            Part part = manifest.parts().get(i);
            byte[] key = keys.get(part.name());
            if (key != null && !base64url(sha256(utf8("umuhuza/1 cek\n"), key)).equals(part.kc()))
                throw new Refused("key_commitment_mismatch", "L1.parts[" + i + "].kc");
        }
    }

    // ---------------------------------------------------------------------------------------------------------------
    // Merkle trees (RFC 6962 section 2.1)

    public static byte[] leafHash(byte[] entry) {
        return sha256(new byte[] {0}, entry);
    }

    public static byte[] nodeHash(byte[] left, byte[] right) {
        return sha256(new byte[] {1}, left, right);
    }

    /** Whether the leaf hash stands at the index of the tree of this size and root (RFC 9162 section 2.1.3.2). */
    public static boolean verifyInclusion(byte[] leaf, BigInteger index, BigInteger size, List<byte[]> path, byte[] root) {
        if (index.signum() < 0 || index.compareTo(size) >= 0) return false;
        byte[] node = leaf;
        BigInteger at = index;
        BigInteger last = size.subtract(BigInteger.ONE);
        int used = 0;
        while (last.signum() > 0) {
            if (at.testBit(0) || at.compareTo(last) < 0) {
                if (used == path.size() || path.get(used).length != 32) return false;
                byte[] sibling = path.get(used++);
                node = at.testBit(0) ? nodeHash(sibling, node) : nodeHash(node, sibling);
            }
            at = at.shiftRight(1);
            last = last.shiftRight(1);
        }
        return used == path.size() && MessageDigest.isEqual(node, root);
    }

    /** Whether the tree of {@code old} leaves is the beginning of the tree of {@code size} (RFC 9162 section 2.1.4.2). */
    public static boolean verifyConsistency(
            BigInteger old, byte[] oldRoot, BigInteger size, byte[] root, List<byte[]> path) {
        BigInteger at = old.subtract(BigInteger.ONE);
        BigInteger last = size.subtract(BigInteger.ONE);
        if (old.signum() < 0 || at.compareTo(last) > 0) return false;
        for (byte[] node : path) if (node.length != 32) return false;
        if (at.equals(last)) return path.isEmpty() && Arrays.equals(oldRoot, root);
        if (old.signum() == 0) return path.isEmpty() && Arrays.equals(oldRoot, sha256());
        List<byte[]> nodes = new ArrayList<>(path);
        if (old.and(at).signum() == 0) nodes.add(0, oldRoot);
        if (nodes.isEmpty()) return false;
        while (at.testBit(0)) {
            at = at.shiftRight(1);
            last = last.shiftRight(1);
        }
        byte[] first = nodes.get(0);
        byte[] second = first;
        for (byte[] node : nodes.subList(1, nodes.size())) {
            if (last.signum() == 0) return false;
            if (at.testBit(0) || at.equals(last)) {
                first = nodeHash(node, first);
                second = nodeHash(node, second);
                while (!at.testBit(0) && at.signum() != 0) {
                    at = at.shiftRight(1);
                    last = last.shiftRight(1);
                }
            } else {
                second = nodeHash(second, node);
            }
            at = at.shiftRight(1);
            last = last.shiftRight(1);
        }
        return last.signum() == 0 && MessageDigest.isEqual(first, oldRoot) && MessageDigest.isEqual(second, root);
    }

    // ---------------------------------------------------------------------------------------------------------------
    // Promises

    private static boolean hasMembers(Map<String, Object> found, Map<String, Class<?>> wanted) {
        return found != null && found.keySet().equals(wanted.keySet())
                && wanted.entrySet().stream().allMatch(one -> one.getValue().isInstance(found.get(one.getKey())));
    }

    private static Map<String, Object> readPromise(String text, byte[] publicKey) throws Refused {
        String[] segments = split(text, '.');
        boolean ascii = text.chars().allMatch(c -> c < 128);
        if (text.length() > 4096 || segments.length != 3 || !ascii) throw malformed("promise");
        String kid = header(segments[0], "umuhuza-promise+jws");
        byte[] payload = unbase64url(segments[1]);
        byte[] signature = unbase64url(segments[2]);
        if (payload == null || signature == null) throw malformed("promise");
        Map<String, Object> found;
        try {
            found = object(Json.parse(payload, 4096, 1));
        } catch (BadJson e) {
            throw malformed("promise");
        }
        if (!kidOf(publicKey).equals(kid) || !es256(publicKey, utf8(segments[0] + "." + segments[1]), signature))
            throw new Refused("signature_invalid", "promise");
        Map<String, Class<?>> wanted = Map.of("v", Long.class, "iss", String.class, "at", Long.class, "origin",
                String.class, "root", String.class, "n", Long.class);
        if (!hasMembers(found, wanted) || !Long.valueOf(1).equals(found.get("v"))) throw malformed("promise");
        byte[] root = unbase64url((String) found.get("root"));
        if (root == null || root.length != 32) throw malformed("promise");
        return found;
    }

    private static String quoted(String text) {
        StringBuilder found = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            int escape = "\"\\\b\f\n\r\t".indexOf(c);
            if (escape >= 0) found.append('\\').append("\"\\bfnrt".charAt(escape));
            else if (c < ' ') found.append(String.format("\\u%04x", (int) c));
            else found.append(c);
        }
        return found.append('"').toString();
    }

    /**
     * What an agency keeps of a gateway's promise for one record.
     *
     * @param data the JSON
     * @param publicKey the gateway's
     * @param domain whose ledger it must be for, {@code bi}
     */
    public static Promised verifyEvidence(byte[] data, byte[] publicKey, String domain) throws Refused {
        Map<String, Object> found;
        try {
            found = object(Json.parse(data, 16384, 3));
        } catch (BadJson e) {
            throw malformed("evidence");
        }
        Map<String, Class<?>> wanted = Map.of("evt", String.class, "l1_sha256", String.class, "topic", String.class,
                "offset", Long.class, "index", Long.class, "path", List.class, "promise", String.class);
        if (!hasMembers(found, wanted)) throw malformed("evidence");
        Map<String, Object> promise = readPromise((String) found.get("promise"), publicKey);
        List<byte[]> path = new ArrayList<>();
        for (Object node : array(found.get("path"))) path.add(node instanceof String text ? unbase64url(text) : null);
        String evt = (String) found.get("evt");
        String digest = (String) found.get("l1_sha256");
        String topic = (String) found.get("topic");
        long offset = (Long) found.get("offset");
        long n = (Long) promise.get("n");
        String line = "[" + quoted(evt) + "," + quoted(digest) + "," + quoted(topic) + "," + offset + "]";
        String origin = (String) promise.get("origin");
        String ledger = domain + ".umuhuza/log"; // or /log2, ...: the one that followed when it was lost
        boolean ours = origin.startsWith(ledger)
                && origin.substring(ledger.length()).matches("([2-9]|[1-9][0-9]{1,3})?");
        boolean right = ours && n > 0 && n <= 1000
                && !path.contains(null);
        if (!right || !verifyInclusion(leafHash(utf8(line)), BigInteger.valueOf((Long) found.get("index")),
                BigInteger.valueOf(n), path, unbase64url((String) promise.get("root"))))
            throw new Refused("root_mismatch", "promise");
        return new Promised(evt, digest, topic, offset, (String) promise.get("iss"), (Long) promise.get("at"),
                (String) promise.get("origin"));
    }

    // ---------------------------------------------------------------------------------------------------------------
    // Signed notes: checkpoints of a log, and who else has seen them

    private static final int MAX_NOTE = 262_144;
    private static final int MAX_EXTRA = 65_536;
    private static final int MAX_PROOF = MAX_NOTE + 2 * MAX_EXTRA + 64 * 65;
    private static final BigInteger MAX_SIZE = BigInteger.ONE.shiftLeft(63).subtract(BigInteger.ONE);
    private static final int ED25519 = 1;
    private static final int COSIGNATURE = 4;
    private static final int ML_DSA_44 = 6;
    /** Eight bytes of time and FIPS 204's 2420. */
    private static final int ML_DSA_44_SIGNATURE = 8 + 2420;
    private static final byte[] ED25519_SPKI = HexFormat.of().parseHex("302a300506032b6570032100");

    private record NoteKey(String name, int type, byte[] key, String id) {}

    private record NoteSignature(String name, String id, byte[] signature) {}

    private record Note(String text, List<NoteSignature> signatures) {}

    private static boolean isName(String text) {
        int unprintable = 1 << Character.CONTROL | 1 << Character.FORMAT | 1 << Character.SURROGATE
                | 1 << Character.PRIVATE_USE | 1 << Character.UNASSIGNED | 1 << Character.SPACE_SEPARATOR
                | 1 << Character.LINE_SEPARATOR | 1 << Character.PARAGRAPH_SEPARATOR;
        return !text.isEmpty() && utf8(text).length <= 255
                && text.codePoints().allMatch(c -> c != '+' && (1 << Character.getType(c) & unprintable) == 0);
    }

    private static String noteText(byte[] data, String path) throws Refused {
        String text = decoded(data);
        if (text == null || text.chars().anyMatch(c -> c < ' ' && c != '\n')) throw badNote(path);
        return text;
    }

    private static BigInteger decimal(String text, String path) throws Refused {
        if (!text.matches("0|[1-9][0-9]{0,18}") || new BigInteger(text).compareTo(MAX_SIZE) > 0) throw badNote(path);
        return new BigInteger(text);
    }

    private static byte[] hash(String text, String path) throws Refused {
        byte[] found = unbase64(text);
        if (found == null || found.length != 32) throw badNote(path);
        return found;
    }

    private static NoteKey readVkey(String text) throws Refused {
        String[] pieces = text.split("\\+", 3);
        byte[] bytes = pieces.length == 3 ? unbase64(pieces[2]) : null;
        Map<Integer, Integer> lengths = Map.of(ED25519, 32, COSIGNATURE, 32, ML_DSA_44, 1312);
        if (bytes == null || bytes.length == 0 || !isName(pieces[0])) throw badNote("vkey");
        if (lengths.getOrDefault((int) bytes[0], -1) != bytes.length - 1) throw badNote("vkey");
        byte[] id = Arrays.copyOf(sha256(utf8(pieces[0] + "\n"), bytes), 4);
        if (!HexFormat.of().formatHex(id).equals(pieces[1])) throw badNote("vkey");
        return new NoteKey(pieces[0], bytes[0], Arrays.copyOfRange(bytes, 1, bytes.length), latin1(id));
    }

    private static List<NoteSignature> signatureLines(String text, String path) throws Refused {
        if (!text.endsWith("\n")) throw badNote(path);
        String[] lines = split(text.substring(0, text.length() - 1), '\n');
        if (lines.length > 32) throw new Refused("too_large", path);
        List<NoteSignature> found = new ArrayList<>();
        Set<String> seen = new HashSet<>();
        for (int i = 0; i < lines.length; i++) {
            String[] pieces = lines[i].split(" ", 3);
            byte[] bytes = pieces.length == 3 && pieces[0].equals("\u2014") ? unbase64(pieces[2]) : null;
            if (bytes == null || bytes.length < 5 || !isName(pieces[1])) throw badNote(path + "[" + i + "]");
            String id = latin1(Arrays.copyOf(bytes, 4));
            if (!seen.add(pieces[1] + " " + id)) throw badNote(path + "[" + i + "]");
            found.add(new NoteSignature(pieces[1], id, Arrays.copyOfRange(bytes, 4, bytes.length)));
        }
        return found;
    }

    /** Ed25519 (RFC 8032). */
    static boolean ed25519(byte[] publicKey, byte[] signature, byte[] message) {
        try {
            byte[] spki = Arrays.copyOf(ED25519_SPKI, 44);
            System.arraycopy(publicKey, 0, spki, 12, 32);
            Signature verifier = Signature.getInstance("Ed25519");
            verifier.initVerify(KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki)));
            verifier.update(message);
            return signature.length == 64 && verifier.verify(signature);
        } catch (GeneralSecurityException e) {
            return false;
        }
    }

    /** The time that the signature states, 0 where it states none; null where it does not verify. */
    private static BigInteger noteSignature(NoteKey key, byte[] signature, String text) {
        if (key.type() == ED25519) return ed25519(key.key(), signature, utf8(text)) ? BigInteger.ZERO : null;
        if (signature.length != 72) return null;
        BigInteger time = new BigInteger(1, Arrays.copyOf(signature, 8));
        byte[] message = utf8("cosignature/v1\ntime " + time + "\n" + text);
        boolean right = ed25519(key.key(), Arrays.copyOfRange(signature, 8, 72), message);
        return right && time.compareTo(MAX_SIZE) <= 0 ? time : null;
    }

    /** Whether the log itself has signed, every signature by one of the keys being checked; adds the witnesses'. */
    private static boolean signers(Note note, List<NoteKey> keys, String origin, List<Signer> cosigned) throws Refused {
        boolean own = false;
        for (int i = 0; i < note.signatures().size(); i++) {
            NoteSignature one = note.signatures().get(i);
            for (NoteKey key : keys) {
                if (key.type() == ML_DSA_44 || !key.name().equals(one.name()) || !key.id().equals(one.id())) continue;
                BigInteger time = noteSignature(key, one.signature(), note.text());
                if (time == null) throw new Refused("signature_invalid", "note.signatures[" + i + "]");
                own |= key.type() == ED25519 && key.name().equals(origin);
                // Time 0 does not say that it is of the newest tree (c2sp.org/tlog-cosignature): it counts for nothing.
                if (key.type() == COSIGNATURE && time.signum() > 0) cosigned.add(new Signer(one.name(), time));
                break;
            }
        }
        return own;
    }

    /**
     * A log's checkpoint.
     *
     * @param vkeys the keys that you trust, the log's own and its witnesses'
     */
    public static Head verifyCheckpoint(byte[] data, List<String> vkeys) throws Refused {
        List<NoteKey> keys = new ArrayList<>();
        for (String vkey : vkeys) keys.add(readVkey(vkey));
        if (data.length > MAX_NOTE) throw new Refused("too_large", "note");
        String whole = noteText(data, "note");
        int blank = whole.lastIndexOf("\n\n");
        if (blank <= 0) throw badNote("note");
        Note note = new Note(whole.substring(0, blank + 1), signatureLines(whole.substring(blank + 2), "note.signatures"));
        String[] lines = split(note.text(), '\n');
        if (lines.length < 4) throw badNote("checkpoint");
        if (lines.length > 4) throw badNote("checkpoint.extension");
        BigInteger size = decimal(lines[1], "checkpoint.size");
        byte[] root = hash(lines[2], "checkpoint.root");
        if (!isName(lines[0])) throw badNote("checkpoint.origin");
        if (size.signum() == 0 && !Arrays.equals(root, sha256())) throw badNote("checkpoint.root");
        List<Signer> cosigned = new ArrayList<>();
        boolean own = signers(note, keys, lines[0], cosigned);
        if (!own) throw new Refused("signature_invalid", "note.signatures");
        List<String> unchecked = new ArrayList<>(
                keys.stream().filter(k -> k.type() == ML_DSA_44).map(NoteKey::name).toList());
        for (NoteSignature one : note.signatures()) {
            boolean known = keys.stream().anyMatch(k -> k.name().equals(one.name()) && k.id().equals(one.id()));
            if (!known && one.signature().length == ML_DSA_44_SIGNATURE) unchecked.add(one.name());
        }
        return new Head(lines[0], size, root, cosigned, unchecked);
    }

    private static final Pattern ENTRY = Pattern.compile(
            "umuhuza-entry/1\n(event|duplicate|registry|erasure|erased|retention|reject|gap)\n"
            + "(-|[a-z]{2}\\.[a-z]+\\.[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)\n(-|0|[1-9][0-9]{0,15})\n"
            + "(-|0|[1-9][0-9]{0,15})\n(-|[0-9a-f]{64})\n(-|[0-9a-f]{64})\n(-|0|[1-9][0-9]{0,15}|[a-z][a-z_]{0,63})\n");

    private static String hashText(String digits) {
        return digits.equals("-") ? digits : base64url(HexFormat.of().parseHex(digits));
    }

    private static Entry readEntry(byte[] entry) throws Refused {
        Matcher match = ENTRY.matcher(latin1(entry));
        if (!match.matches()) throw new Refused("log_inconsistent", "entry");
        return new Entry(match.group(1), match.group(2), match.group(3), match.group(4), hashText(match.group(5)),
                hashText(match.group(6)), match.group(7));
    }

    /**
     * A receipt (c2sp.org/tlog-proof): the entry that it carries is in the log, under the checkpoint that it carries.
     *
     * @param vkeys the keys that you trust, the log's own and its witnesses'
     */
    public static Receipt verifyReceipt(byte[] data, List<String> vkeys) throws Refused {
        if (data.length > MAX_PROOF) throw new Refused("too_large", "proof");
        int blank = latin1(data).indexOf("\n\n");
        if (blank < 0) throw badNote("proof");
        List<String> lines = new ArrayList<>(List.of(split(noteText(Arrays.copyOf(data, blank), "proof"), '\n')));
        if (!lines.remove(0).equals("c2sp.org/tlog-proof@v1")) throw badNote("proof.header");
        boolean carries = !lines.isEmpty() && lines.get(0).startsWith("extra ");
        byte[] extra = carries ? unbase64(lines.remove(0).substring(6)) : null;
        if (carries && extra == null) throw badNote("proof.extra");
        if (carries && extra.length > MAX_EXTRA) throw new Refused("too_large", "proof.extra");
        if (lines.isEmpty() || !lines.get(0).startsWith("index ")) throw badNote("proof.index");
        BigInteger index = decimal(lines.remove(0).substring(6), "proof.index");
        if (lines.size() > 63) throw badNote("proof.path");
        List<byte[]> path = new ArrayList<>();
        for (int i = 0; i < lines.size(); i++) path.add(hash(lines.get(i), "proof.path[" + i + "]"));
        if (!carries) throw badNote("proof.extra");
        Head head = verifyCheckpoint(Arrays.copyOfRange(data, blank + 2, data.length), vkeys);
        if (!verifyInclusion(leafHash(extra), index, head.size(), path, head.root()))
            throw new Refused("root_mismatch", "proof");
        return new Receipt(head, index, readEntry(extra));
    }

    /** What was promised is this record, by what was signed. */
    public static void isAbout(Promised promised, Identity record) throws Refused {
        boolean same = promised.digest().equals(record.digest()) && promised.topic().equals(record.topic())
                && promised.evt().equals(record.evt());
        if (!same) throw new Refused("record_rewritten", "evidence");
    }

    /** What was logged is this record, byte for byte. */
    public static void isAbout(Entry entry, Identity record) throws Refused {
        boolean same = entry.digest().equals(record.digest()) && entry.topic().equals(record.topic())
                && entry.sha256().equals(record.sha256());
        if (!same) throw new Refused("record_rewritten", "entry");
    }

    // ---------------------------------------------------------------------------------------------------------------
    // The command

    private static final class Usage extends Exception {
        private static final long serialVersionUID = 1L;

        Usage(String english, String french) {
            super(english + " / " + french);
        }
    }

    private static byte[] file(String name) throws Usage {
        try {
            return Files.readAllBytes(Path.of(name));
        } catch (IOException e) {
            throw new Usage("a file cannot be read", "un fichier ne se lit pas");
        }
    }

    private static byte[] key(String text) throws Usage {
        byte[] found = unbase64url(text);
        if (found == null || found.length == 0) throw new Usage("a key is none", "une clé n'en est pas une");
        return found;
    }

    private static Identity compared(String name) throws Usage, Refused {
        return name.equals("-") ? null : identify(file(name));
    }

    private static String time(BigInteger seconds) {
        return seconds.bitLength() > 40 ? seconds + " s" : Instant.ofEpochSecond(seconds.longValue()).toString();
    }

    private static List<String> described(Head head) {
        List<String> lines = new ArrayList<>();
        lines.add("log: " + head.origin());
        lines.add("entries: " + head.size());
        for (Signer one : head.cosigned()) lines.add("witness: " + one.name() + ", " + time(one.time()));
        if (head.cosigned().isEmpty()) lines.add("witness: none / aucun");
        for (String name : head.unchecked()) lines.add("not checked here / non vérifié ici: ML-DSA-44, " + name);
        return lines;
    }

    private static List<String> run(List<String> words) throws Usage, Refused {
        String command = words.isEmpty() ? "" : words.get(0);
        Map<String, Integer> least = Map.of("record", 3, "promise", 4, "receipt", 4, "checkpoint", 3);
        if (words.size() < least.getOrDefault(command, Integer.MAX_VALUE))
            throw new Usage("usage: see the first lines of Verify.java", "voir les premières lignes de Verify.java");
        byte[] data = file(words.get(1));
        List<String> lines = new ArrayList<>(List.of("valid / valide"));
        if (command.equals("record")) {
            Map<String, byte[]> keys = new LinkedHashMap<>();
            for (String pair : words.subList(3, words.size()))
                keys.put(pair.substring(0, Math.max(pair.indexOf('='), 0)), key(pair.substring(pair.indexOf('=') + 1)));
            Checked found = verifyRecord(data, key(words.get(2)), keys);
            Manifest manifest = found.manifest();
            lines.add("kid: " + found.kid());
            for (String name : List.of("iss", "to", "topic", "kind", "evt", "seq"))
                lines.add(name + ": " + manifest.all().get(name));
            lines.add("iat: " + time(BigInteger.valueOf(manifest.iat())));
            lines.add("digest: " + found.digest());
            for (Part part : manifest.parts())
                lines.add(part.name() + (found.opened().containsKey(part.name()) ? ": opened / ouverte" : ": sealed / scellée"));
        } else if (command.equals("promise")) {
            Promised found = verifyEvidence(data, key(words.get(2)), words.get(3));
            Identity record = words.size() > 4 ? compared(words.get(4)) : null;
            if (record != null) isAbout(found, record);
            lines.addAll(List.of("by / par: " + found.iss(), "at / le: " + time(BigInteger.valueOf(found.at())),
                    "log: " + found.origin(), "evt: " + found.evt(), "topic: " + found.topic(),
                    "offset: " + found.offset(), "digest: " + found.digest()));
        } else if (command.equals("receipt")) {
            Receipt found = verifyReceipt(data, words.subList(3, words.size()));
            Identity record = compared(words.get(2));
            if (record != null) isAbout(found.entry(), record);
            lines.addAll(List.of("kind: " + found.entry().kind(), "topic: " + found.entry().topic(),
                    "offset: " + found.entry().offset(), "detail: " + found.entry().detail(), "index: " + found.index()));
            lines.addAll(described(found.head()));
        } else {
            lines.addAll(described(verifyCheckpoint(data, words.subList(2, words.size()))));
        }
        return lines;
    }

    public static void main(String[] arguments) {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        PrintStream err = new PrintStream(System.err, true, StandardCharsets.UTF_8);
        try {
            // Nothing that a terminal would obey.
            for (String line : run(List.of(arguments))) out.println(line.replaceAll("[\\x00-\\x1f\\x7f-\\x9f]", "\ufffd"));
        } catch (Refused e) {
            err.println("refused / refusé: " + e.code + " [" + e.path + "]");
            System.exit(1);
        } catch (Usage e) {
            err.println(e.getMessage());
            System.exit(2);
        }
    }
}
