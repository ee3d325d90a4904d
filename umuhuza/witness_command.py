# SPDX-License-Identifier: Apache-2.0
"""`umuhuza witness`: this domain's witness for other domains' ledgers, and the witnesses of this domain's ledger.

    init, add-log, status      a witness's own folder (`topics.witness_folder`)
    run                        serves it without a gateway; with one, `umuhuza gateway run` does
    trust, run-once            a ledger's folder (`topics.cosigning`): whom it asks, and one round of asking

Two domains that cosign each other exchange two small files by any way (`witness.pub`, the ledger's public keys) and
compare the fingerprints by telephone.
"""

from __future__ import annotations

import errno
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from schemas.errors import CODES, LogError
from schemas.keys import fingerprint_of
from schemas.notes import NoteKey, NoteSigner, SignatureType, is_name
from schemas.registry_bundle import MAX_REGISTRY_BYTES
from schemas.registry_trust import trusted
from schemas.trust_policy import NONE, Group, TrustedLog, TrustedWitness, TrustPolicy, is_foreign, read_policy
from topics.cosigning import (
    POLICY_FILE,
    Cosignatures,
    HttpLedger,
)
from topics.durable_file import keep_file
from topics.private_file import write_private
from topics.registry_file import registry_pin
from topics.settings import SettingsError
from topics.witness import Witness
from topics.witness_folder import KEY_FILE, LOGS_FILE, PUBLIC_FILE, STATE_FILE, open_witness, read_note_keys
from umuhuza.asking import current_passphrase
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.ledger_settings import ALGORITHMS, key_line
from umuhuza.ledger_witnesses import CONTRADICTS, ask_once
from umuhuza.witness_process import serve
from umuhuza.words import language, result, t, table

REFUSED, NOT_NOW = 1, 3
WITNESS_KINDS = (SignatureType.COSIGNATURE, SignatureType.ML_DSA_44)
_QUORUM = "quorum"

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du témoin.", "The witness's folder."))]
LedgerFolder = Annotated[
    Path, typer.Option("--ledger", help=t("Dossier du registre de preuve.", "The ledger's folder."))
]
Json = Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))]


def make_witness(folder: Path, name: str) -> tuple[NoteKey, ...]:
    """A new witness: its keys, its memory, an empty list of ledgers.

    The key file comes last: without it nothing was ever signed, and what an interrupted attempt left is made again.

    Raises:
        FileExistsError: there is a witness here.
        LogError: note_malformed, it cannot be called that; storage_full, unavailable.
    """
    signers = [NoteSigner.generate(name, kind, os.urandom) for kind in WITNESS_KINDS]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / KEY_FILE).exists():
        raise FileExistsError(folder / KEY_FILE)
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{STATE_FILE}{suffix}").unlink(missing_ok=True)
    Witness.create(folder / STATE_FILE, signers)
    keys = tuple(signer.public for signer in signers)
    keep_file(folder / LOGS_FILE, TrustPolicy((), (), (), NONE).dumps())
    keep_file(folder / PUBLIC_FILE, "".join(f"{key.vkey}\n" for key in keys).encode("utf-8"))
    write_private(folder / KEY_FILE, "".join(f"{signer.skey}\n" for signer in signers))
    return keys


def add_log(folder: Path, keys: tuple[NoteKey, ...]) -> TrustPolicy:
    """The witness cosigns this ledger from now on.

    Raises:
        SettingsError: the list cannot be read, or these are no ledger's keys.
    """
    if any(key.kind == SignatureType.COSIGNATURE for key in keys):
        raise SettingsError("a witness's keys, not a ledger's", "clés d'un témoin, et non d'un registre de preuve")
    policy = _policy_at(folder / LOGS_FILE)
    known = {log.key for log in policy.logs}
    logs = (*policy.logs, *(TrustedLog(key) for key in keys if key not in known))
    return _replaced(folder / LOGS_FILE, TrustPolicy(logs, policy.witnesses, policy.groups, policy.quorum))


def trust(folder: Path, own: Path, name: str, keys: tuple[NoteKey, ...], url: str) -> TrustPolicy:
    """The ledger asks this witness from now on, and its checkpoints need the cosignatures of all its witnesses.

    An operator who wants another quorum writes it in the file; then witnesses are added there too.

    Args:
        own: file with the ledger's own public keys, read for the first witness.

    Raises:
        SettingsError: the policy cannot be read, was written by hand, or a name or key stands in it already.
    """
    if any(key.kind == SignatureType.ED25519 for key in keys):
        raise SettingsError("a ledger's keys, not a witness's", "clés d'un registre de preuve, et non d'un témoin")
    if not url.startswith(("https://", "http://")):
        raise SettingsError("--url: expected https://...", "--url : attendu https://…")
    path = folder / POLICY_FILE
    policy = _policy_at(path) if path.exists() else TrustPolicy((), (), (), NONE)
    made = {group.name: group for group in policy.groups}
    before = made.pop(_QUORUM, None)
    plain = all(group.least == len(group.members) for group in policy.groups)
    if not plain or (policy.quorum != NONE and before is None):
        raise SettingsError(
            f"{POLICY_FILE}: its quorum was written by hand; add the witness there",
            f"{POLICY_FILE} : son quorum est écrit à la main ; ajoutez-y le témoin",
        )
    logs = policy.logs or tuple(TrustedLog(key) for key in read_note_keys(own))
    added = tuple(TrustedWitness(f"{name}-{ALGORITHMS[key.kind].lower()}", key, url) for key in keys)
    if set(keys) & {one.key for one in policy.witnesses}:
        raise SettingsError(f"{POLICY_FILE}: this witness is there already", f"{POLICY_FILE} : ce témoin y est déjà")
    if {name, *(one.name for one in added)} & {*made, *(one.name for one in policy.witnesses)}:
        raise SettingsError(
            f"--name: a witness in {POLICY_FILE} has it already", f"--name : un témoin de {POLICY_FILE} le porte déjà"
        )
    members = Group(name, len(added), tuple(one.name for one in added))
    groups = (*made.values(), members)
    quorum = Group(_QUORUM, len(groups), tuple(group.name for group in groups))
    return _replaced(path, TrustPolicy(logs, (*policy.witnesses, *added), (*groups, quorum), _QUORUM))


def _policy_at(path: Path) -> TrustPolicy:
    try:
        return read_policy(path.read_bytes())
    except (OSError, LogError) as exc:
        where = f" ({exc.path})" if isinstance(exc, LogError) and exc.path else ""
        raise SettingsError(
            f"{path.name}: cannot be read{where}", f"{path.name} : ne peut pas être lu{where}"
        ) from None


def _replaced(path: Path, policy: TrustPolicy) -> TrustPolicy:
    """Written only if it reads as it was meant."""
    data = policy.dumps()
    try:
        read = read_policy(data)
    except LogError:
        read = None
    if read != policy:
        raise SettingsError(
            "a name or a key that cannot stand there, or stands there already",
            "un nom ou une clé qui ne peut y figurer, ou qui y figure déjà",
        )
    keep_file(path, data)
    return policy


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else "–"


# ---------------------------------------------------------------------------------------------------------------------
# The witness of this domain


@app.command(help=t("Crée un témoin : ses clés et sa mémoire.", "Make a witness: its keys and its memory."))
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help=t("Son nom : tn.umuhuza/witness.", "Its name: tn.umuhuza/witness."))],
    as_json: Json = False,
) -> None:
    if not is_name(name):
        raise typer.BadParameter(
            t("sans espace ni +, comme tn.umuhuza/witness", "no space, no +, such as tn.umuhuza/witness"),
            param_hint="--name",
        )
    try:
        keys = make_witness(folder, name)
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "un témoin s'y trouve déjà ; ses clés ne sont jamais écrasées",
                "there is a witness already; its keys are never overwritten",
            ),
            param_hint="--dir",
        ) from None
    result(
        {
            "ok": True,
            "name": name,
            "keys": [key.vkey for key in keys],
            "fingerprints": [fingerprint_of(key.public) for key in keys],
            "public": str(folder / PUBLIC_FILE),
        },
        as_json=as_json,
        lines=[
            t(f"Témoin {name} créé dans {folder}.", f"Witness {name} made in {folder}."),
            t("Empreintes, à lire au téléphone :", "Fingerprints, to be read on the telephone:"),
            *(f"  {key_line(key)}" for key in keys),
            t(
                f"Donnez {folder / PUBLIC_FILE} à qui tient un registre de preuve, demandez-lui ses clés, puis :",
                f"Give {folder / PUBLIC_FILE} to whoever keeps a ledger, ask for its keys, then:",
            ),
            f"  umuhuza witness add-log {t('CLÉS', 'KEYS')} --dir {folder}",
            t(
                f'Et dans gateway.toml : witness = "{folder.resolve()}"',
                f'And in gateway.toml: witness = "{folder.resolve()}"',
            ),
            t(
                f"Ne remettez jamais {STATE_FILE} d'après une copie : faites plutôt un nouveau témoin.",
                f"Never put {STATE_FILE} back from a copy: make a new witness instead.",
            ),
        ],
    )


@app.command(
    "add-log",
    help=t("Le témoin cosigne désormais ce registre de preuve.", "The witness cosigns this ledger from now on."),
)
def add_log_command(
    keys_file: Annotated[
        Path,
        typer.Argument(
            metavar="KEYS",
            help=t(
                "Clés publiques du registre de preuve, une par ligne ; avec --root, un registre qui l'annonce.",
                "The ledger's public keys, one a line; with --root, a registry that announces it.",
            ),
        ),
    ],
    folder: Folder,
    root: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Empreinte de la racine sous laquelle ce registre est cru : celui d'un pays, entier ou en extrait.",
                "Fingerprint of the root under which that registry is believed: a country's, whole or an excerpt.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    keys = read_note_keys(keys_file) if root is None else _announced(keys_file, root)
    policy = add_log(folder, keys)
    result(
        {
            "ok": True,
            "logs": sorted({log.key.name for log in policy.logs}),
            "fingerprints": [fingerprint_of(key.public) for key in keys],
        },
        as_json=as_json,
        lines=[
            t("Comparez au téléphone avec qui tient ce registre :", "Compare on the telephone with who keeps it:"),
            *(f"  {key_line(key)}" for key in keys),
            t(
                "Cosigné dès la prochaine demande ; rien à relancer.",
                "Cosigned from the next request on; nothing to restart.",
            ),
        ],
    )


def _announced(file: Path, root: str) -> tuple[NoteKey, ...]:
    """Keys of the ledger that counts now, by a registry. Raises SettingsError, RegistryError."""
    try:
        with file.open("rb") as stream:
            found = trusted(stream.read(MAX_REGISTRY_BYTES + 1), registry_pin(root, "--root"), excerpt=True)
    except OSError:
        raise SettingsError(f"{file.name}: cannot be read", f"{file.name} : ne peut pas être lu") from None
    if not found.registry.ledgers:
        raise SettingsError(f"{file.name}: announces no ledger", f"{file.name} : n'annonce aucun registre de preuve")
    return found.registry.ledgers[-1].keys


@app.command(
    "run",
    help=t(
        "Lance le témoin sans passerelle, jusqu'à Ctrl-C ou SIGTERM.",
        "Run the witness without a gateway, until Ctrl-C or SIGTERM.",
    ),
)
def run_command(
    folder: Folder,
    host: Annotated[str, typer.Option(help=t("Adresse d'écoute.", "Address to listen on."))] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help=t("Port ; 0 : un port libre.", "Port; 0: a free one."))
    ] = 8442,
    ready_file: Annotated[
        Path | None, typer.Option(help=t("Écrit l'adresse une fois prête.", "Written with the address once ready."))
    ] = None,
) -> None:
    witness = open_witness(folder, current_passphrase)

    def ready(address: str) -> None:
        if ready_file is not None:
            keep_file(ready_file, address.encode("ascii"))

    try:
        serve(witness, host, port, ready)
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        raise SettingsError(
            f"cannot listen on {host}:{port}: taken by another program, or not allowed",
            f"impossible d'écouter sur {host}:{port} : pris par un autre programme, ou interdit",
        ) from None
    finally:
        witness.close()


@app.command(
    help=t(
        "Ce que le témoin a vu ; avec --ledger, qui a cosigné ce registre. 1 : contradiction, ou témoin muet.",
        "What the witness has seen; with --ledger, who has cosigned it. 1: a contradiction, or a silent witness.",
    )
)
def status(
    folder: Annotated[Path | None, typer.Option("--dir", help=t("Dossier du témoin.", "The witness's folder."))] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help=t("Dossier du registre de preuve.", "The ledger's folder."))
    ] = None,
    as_json: Json = False,
) -> None:
    if folder is None and ledger is None:
        raise typer.BadParameter(t("donnez l'un des deux", "give one of the two"), param_hint="--dir, --ledger")
    told: dict[str, Any] = {}
    if folder is not None:
        told["seen"] = _seen(folder)
        if not as_json:
            _show_seen(told["seen"])
    if ledger is not None:
        book = book_of(ledger)
        told["witnesses"] = _witnesses(book, int(time.time()))
        if not as_json:
            _show_witnesses(told["witnesses"])
    ok = not any(one["contradictions"] for one in told.get("seen", ()))
    ok = ok and not any(one["silent"] or one["code"] == CONTRADICTS for one in told.get("witnesses", ()))
    if as_json:
        result({"ok": ok, **told}, as_json=True)
    if not ok:
        raise SystemExit(REFUSED)


def _seen(folder: Path) -> list[dict[str, Any]]:
    witness = open_witness(folder, current_passphrase)
    try:
        return [
            {
                "log": one.origin,
                "size": one.size,
                "at": one.at,
                "advanced_at": one.advanced_at,
                "contradictions": one.contradictions,
                "unproved": one.unproved,
            }
            for one in witness.seen()
        ]
    finally:
        witness.close()


def _show_seen(seen: list[dict[str, Any]]) -> None:
    table(
        t("Registres de preuve cosignés", "Ledgers cosigned"),
        (t("Registre", "Ledger"), t("Entrées", "Entries"), t("Cosigné", "Cosigned"), "Contradictions"),
        [(one["log"], str(one["size"]), _at(one["at"]), str(one["contradictions"])) for one in seen],
    )


# ---------------------------------------------------------------------------------------------------------------------
# The witnesses of this domain's ledger


def book_of(folder: Path) -> Cosignatures:
    """Raises SettingsError: no policy, or not one ledger's."""
    origins = {log.key.name for log in _policy_at(folder / POLICY_FILE).logs}
    if len(origins) != 1:
        raise SettingsError(
            f"{POLICY_FILE}: the keys of one ledger are needed", f"{POLICY_FILE} : il faut les clés d'un seul registre"
        )
    return Cosignatures(folder, origins.pop())


@app.command(
    "trust",
    help=t(
        "Le registre de preuve demande désormais la cosignature de ce témoin.",
        "The ledger asks this witness for its cosignature from now on.",
    ),
)
def trust_command(
    keys_file: Annotated[
        Path,
        typer.Argument(
            metavar="KEYS",
            help=t("Clés publiques du témoin (witness.pub).", "The witness's public keys (witness.pub)."),
        ),
    ],
    ledger: LedgerFolder,
    name: Annotated[str, typer.Option(help=t("Nom dans ce fichier : tn.", "Its name in this file: tn."))],
    url: Annotated[
        str,
        typer.Option(help=t("Adresse : https://tn.example/v1/witness", "Address: https://tn.example/v1/witness")),
    ],
    own: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            help=t(
                "Clés publiques de ce registre de preuve ; sans cela ledger.pub de son dossier.",
                "This ledger's own public keys; without it ledger.pub of its folder.",
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    keys = read_note_keys(keys_file)
    policy = trust(ledger, own or ledger / LEDGER_PUBLIC_FILE, name, keys, url)
    result(
        {
            "ok": True,
            "witnesses": [one.name for one in policy.witnesses],
            "fingerprints": [fingerprint_of(key.public) for key in keys],
        },
        as_json=as_json,
        lines=[
            t("Comparez au téléphone avec qui tient ce témoin :", "Compare on the telephone with who keeps it:"),
            *(f"  {key_line(key)}" for key in keys),
        ],
    )


@app.command(
    "run-once",
    help=t(
        "Demande une fois à tous les témoins de cosigner. 3 : le quorum manque encore ; 1 : contradiction.",
        "Ask all witnesses once to cosign. 3: the quorum is not met yet; 1: a contradiction.",
    ),
)
def run_once(
    ledger: LedgerFolder,
    log: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Où le registre est servi, https://bi.example/v1/log ; sans cela, lu dans son dossier.",
                "Where it is served, https://bi.example/v1/log; without it, read from its folder.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    book = book_of(ledger)
    now = int(time.time())
    if log is None:
        asked, _ = ask_once(ledger, book.origin, now)
    else:
        with httpx2.Client() as client:
            asked = book.ask(HttpLedger(client, log), client, now)
    witnesses = _witnesses(book, now)
    contradicted = any(one["code"] == CONTRADICTS for one in witnesses)
    ok = asked.endorsed and not contradicted
    if as_json:
        result({"ok": ok, "size": asked.size, "endorsed": asked.endorsed, "witnesses": witnesses}, as_json=True)
    else:
        _show_witnesses(witnesses)
    if not ok:
        raise SystemExit(REFUSED if contradicted else NOT_NOW)


def _witnesses(book: Cosignatures, now: int) -> list[dict[str, Any]]:
    silent = book.silent(now)
    return [
        {
            "name": one.name,
            "key": one.key.name,
            "foreign": is_foreign(one, book.origin),
            "size": fact.size,
            "at": fact.at,
            "heard_at": fact.heard_at,
            "code": fact.code,
            "silent": one.name in silent,
        }
        for one, fact in zip(book.policy.witnesses, book.facts(), strict=True)
    ]


def _show_witnesses(witnesses: list[dict[str, Any]]) -> None:
    table(
        t("Témoins de ce registre de preuve", "Witnesses of this ledger"),
        (t("Témoin", "Witness"), t("Entrées", "Entries"), t("Entendu", "Heard"), t("État", "State")),
        [(one["name"], str(one["size"]), _at(one["heard_at"]), _state(one)) for one in witnesses],
    )


def _state(one: dict[str, Any]) -> str:
    if one["code"] == CONTRADICTS:
        return "CONTRADICTION"
    if one["silent"]:
        return t("muet depuis plus d'un jour", "silent for more than a day")
    return t("en ordre", "in order") if one["code"] is None else CODES[one["code"]].title(language())
