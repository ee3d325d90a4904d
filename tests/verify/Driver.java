// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Lets a test ask docs/verify/Verify.java: one question a line on standard input, one answer a line on standard output.
 * Fields are separated by tabs, bytes are base64url. An answer is "ok" and what was found, or a refusal's code and path.
 */
public final class Driver {
    private Driver() {}

    private static List<String> listed(String text) {
        return text.isEmpty() ? List.of() : List.of(text.split(","));
    }

    private static List<Object> judged(boolean right) throws Verify.Refused {
        if (!right) throw new Verify.Refused("no", "");
        return List.of();
    }

    private static List<Object> head(Verify.Head head) {
        String cosigned = head.cosigned().stream().map(one -> one.name() + "@" + one.time()).collect(Collectors.joining(","));
        return List.of(head.origin(), head.size(), Verify.base64url(head.root()), cosigned,
                String.join(",", head.unchecked()));
    }

    private static List<Object> record(String[] fields) throws Verify.Refused {
        Map<String, byte[]> keys = new LinkedHashMap<>();
        for (String pair : listed(fields[3])) keys.put(pair.split("=")[0], Verify.unbase64url(pair.split("=")[1]));
        Verify.Checked found = Verify.verifyRecord(Verify.unbase64url(fields[1]), Verify.unbase64url(fields[2]), keys);
        Verify.Manifest m = found.manifest();
        String members = String.join(",", m.evt(), m.iss(), m.to(), m.topic(), m.kind(), m.thread(), "" + m.seq(),
                m.prev(), "" + m.iat(), "" + m.reg());
        List<String> opened = new ArrayList<>();
        found.opened().forEach((name, text) -> opened.add(name + "=" + Verify.base64url(Verify.sha256(text))));
        return List.of(found.digest(), members, String.join(",", opened));
    }

    private static List<Object> evidence(String[] fields) throws Verify.Refused {
        Verify.Promised found =
                Verify.verifyEvidence(Verify.unbase64url(fields[1]), Verify.unbase64url(fields[2]), fields[3]);
        String named = found.evt() + "," + found.topic() + "," + found.offset() + "," + found.digest();
        return List.of(Verify.base64url(named.getBytes(StandardCharsets.UTF_8)), found.iss(), found.at());
    }

    private static List<Object> receipt(String[] fields) throws Verify.Refused {
        List<String> vkeys = Arrays.asList(fields).subList(2, fields.length);
        Verify.Receipt found = Verify.verifyReceipt(Verify.unbase64url(fields[1]), vkeys);
        Verify.Entry e = found.entry();
        List<Object> told = new ArrayList<>(head(found.head()));
        told.add(found.index());
        told.add(String.join(",", e.kind(), e.topic(), e.offset(), e.previous(), e.sha256(), e.digest(), e.detail()));
        return told;
    }

    private static List<Object> answer(String[] fields) throws Verify.Refused {
        byte[] first = Verify.unbase64url(fields[1]);
        return switch (fields[0]) {
            case "record" -> record(fields);
            case "evidence" -> evidence(fields);
            case "checkpoint" -> head(Verify.verifyCheckpoint(first, Arrays.asList(fields).subList(2, fields.length)));
            case "receipt" -> receipt(fields);
            case "inclusion" -> judged(Verify.verifyInclusion(first, new BigInteger(fields[2]), new BigInteger(fields[3]),
                    listed(fields[5]).stream().map(Verify::unbase64url).toList(), Verify.unbase64url(fields[4])));
            case "consistency" -> judged(Verify.verifyConsistency(new BigInteger(fields[2]), first, new BigInteger(fields[3]),
                    Verify.unbase64url(fields[4]), listed(fields[5]).stream().map(Verify::unbase64url).toList()));
            case "es256" -> judged(Verify.es256(first, Verify.unbase64url(fields[2]), Verify.unbase64url(fields[3])));
            case "ed25519" -> judged(Verify.ed25519(first, Verify.unbase64url(fields[3]), Verify.unbase64url(fields[2])));
            default -> throw new IllegalArgumentException("no such question");
        };
    }

    public static void main(String[] arguments) throws IOException {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                List<Object> found = answer(line.split("\t", -1));
                out.println("ok" + found.stream().map(one -> "\t" + one).collect(Collectors.joining()));
            } catch (Verify.Refused e) {
                out.println(e.code + "\t" + e.path);
            }
            out.flush();
        }
    }
}
