# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency enrol`, `renew`, `lost`, `words`: an agency's keys from their making to the telephone call.

Keys are made here and stay here: in a file locked with a passphrase, or in a device. What leaves is the request, with
public keys. Whoever approves it hears twelve words from a person whose voice and number are known (`registry approve`).

If we crash here, keys are there whole or not at all; without a request beside them the command is given again in an
empty folder, or `lost` in this one. Must never: take a passphrase as an argument, overwrite a key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.keystore import EarlierKeys, Keys, read_key_file, write_device_keys, write_keys
from adapters.settings import FILE_NAME, AgencySettings, load_agency
from schemas.enrolment import Request, dumps_request, read_request
from schemas.errors import KeyStoreError
from schemas.keys import CLASSICAL, HYBRID, SealTo
from schemas.registry import ROLES, Agency
from schemas.spoken import fingerprint_words, grouped
from topics.durable_file import replace_file
from topics.registry_file import RegistryFile, registry_pin
from topics.settings import SettingsError
from umuhuza.agency_command import check_settings, init_agency, write_settings
from umuhuza.asking import current_passphrase, new_passphrase, new_pin
from umuhuza.options import Folder, Json
from umuhuza.words import language, result, t

REQUEST = "inscription.json"
APPROVE = f"umuhuza registry approve {REQUEST} --dir registre"

TokenModule = Annotated[
    Path | None,
    typer.Option(
        help=t(
            "Clés dans un dispositif PKCS#11 : sa bibliothèque (…/opensc-pkcs11.so). Le code PIN est demandé.",
            "Keys in a PKCS#11 device: its library (…/opensc-pkcs11.so). Its PIN is asked for.",
        )
    ),
]
TokenLabel = Annotated[
    str | None,
    typer.Option(help=t("Nom du dispositif, s'il y en a plusieurs.", "The device's label, if there are several.")),
]
HardwareSuite = Annotated[
    bool,
    typer.Option(
        "--hardware-suite",
        help=t(
            "Clé de scellement P-256, comme dans un dispositif ; le registre doit l'admettre.",
            "P-256 sealing key, as in a device; the registry has to allow it.",
        ),
    ),
]


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where new keys go: a file locked with a passphrase that is asked for, or a device."""

    agency: str
    hardware_suite: bool = False
    module: Path | None = None
    label: str | None = None
    opens: Keys | None = None
    """Earlier keys: what was sealed to them can still be opened."""

    def __call__(self, path: Path) -> Keys:
        """Make the keys and the key file `path`. Returns the new keys only. Raises KeyStoreError, FileExistsError."""
        if path.exists():
            raise FileExistsError(path)
        if self.module is not None:
            from adapters.key_device import device_keys, make_device_keys  # only here: see `adapters.keystore`

            pin = cache(new_pin)  # asked once the device is found, and once only
            where = make_device_keys(self.agency, str(self.module), self.label, pin, os.urandom)
            made = device_keys(self.agency, where, pin)
            if self.opens is not None:
                to = SealTo(CLASSICAL, where.seal.public)
                where = replace(where, earlier=EarlierKeys.of(self.opens, to))
            write_device_keys(path, self.agency, where)
            return made
        made = Keys.generate(self.agency, os.urandom, CLASSICAL if self.hardware_suite else HYBRID)
        earlier = {} if self.opens is None else self.opens.seal
        write_keys(path, Keys(self.agency, made.sig, {**earlier, **made.seal}), new_passphrase())
        return made


def domain_words(settings: AgencySettings) -> dict[str, tuple[str, ...]]:
    """The words of the domain's root, in both languages: the registry holder reads them out."""
    public = registry_pin(settings.registry_root).digest
    return {"fr": fingerprint_words("registry", public, "fr"), "en": fingerprint_words("registry", public, "en")}


def enrol(
    folder: Folder,
    agency: Annotated[
        str,
        typer.Option(
            help=t(
                "Identifiant, bi/iom ; un nom neutre pour un lieu protégé.",
                "Id, bi/iom; a neutral handle for a protected place.",
            )
        ),
    ],
    name: Annotated[str, typer.Option(help=t("Nom français.", "French name."))],
    role: Annotated[
        list[str],
        typer.Option(help=t("Rôle ; plusieurs fois possible : ", "Role; may be repeated: ") + ", ".join(ROLES)),
    ],
    gateway: Annotated[str, typer.Option(help=t("Adresse de la passerelle.", "The gateway's address."))],
    registry_root: Annotated[str, typer.Option(help=t("Empreinte de la racine.", "Fingerprint of the root."))],
    gateway_agency: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Exploitant de la passerelle (par défaut : <domaine>/operator).",
                "The gateway's operator (default: <domain>/operator).",
            )
        ),
    ] = None,
    name_en: Annotated[str | None, typer.Option(help=t("Nom anglais.", "English name."))] = None,
    protected: Annotated[
        bool,
        typer.Option(
            "--protected",
            help=t("Lieu protégé : son nom n'apparaît nulle part.", "Protected place: its name appears nowhere."),
        ),
    ] = False,
    kobo_to: Annotated[
        str | None,
        typer.Option(help=t("Envoyer les soumissions Kobo à cette agence.", "Send Kobo submissions to this agency.")),
    ] = None,
    hardware_suite: HardwareSuite = False,
    token_module: TokenModule = None,
    token_label: TokenLabel = None,
    as_json: Json = False,
) -> None:
    if any(one not in ROLES for one in role):
        raise typer.BadParameter(
            t("rôle inconnu ; connus : ", "unknown role; known: ") + ", ".join(ROLES), param_hint="--role"
        )
    try:
        init_agency(
            folder,
            agency=agency,
            gateway=gateway,
            registry_root=registry_root,
            gateway_agency=gateway_agency or f"{agency.partition('/')[0]}/operator",
            names={"fr": name, **({} if name_en is None else {"en": name_en})},
            roles=tuple(role),
            protected=protected,
            kobo_to=kobo_to,
            language=language(),
            make_keys=KeyPlace(agency, hardware_suite, token_module, token_label),
        )
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "des clés s'y trouvent déjà ; elles ne sont jamais écrasées",
                "keys are there already; they are never overwritten",
            ),
            param_hint="--dir",
        ) from None
    # Written again as a request: on one line, which is what the words are made of.
    request = _write_request(folder, read_request((folder / REQUEST).read_bytes()).agency, lost=False)
    _tell(
        folder,
        request,
        as_json=as_json,
        first=[
            t(
                f"Clés de {agency} créées dans {folder} ; elles n'en sortent pas.",
                f"Keys of {agency} made in {folder}; they stay there.",
            )
        ],
        then=APPROVE,
    )


def lost(
    folder: Folder,
    agency: Annotated[
        str | None, typer.Option(help=t("Dans un dossier vide : l'identifiant.", "In an empty folder: the id."))
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(help=t("Dans un dossier vide : la passerelle.", "In an empty folder: the gateway's address.")),
    ] = None,
    registry_root: Annotated[
        str | None,
        typer.Option(help=t("Dans un dossier vide : la racine.", "In an empty folder: the root's fingerprint.")),
    ] = None,
    keep_opening: Annotated[
        bool,
        typer.Option(
            "--keep-opening",
            help=t(
                "Garder de quoi ouvrir ce qui était scellé aux anciennes clés (il faut leur phrase de passe).",
                "Keep what opens records sealed to the earlier keys (their passphrase is needed).",
            ),
        ),
    ] = False,
    hardware_suite: HardwareSuite = False,
    token_module: TokenModule = None,
    token_label: TokenLabel = None,
    as_json: Json = False,
) -> None:
    settings = _prepared(folder, agency, gateway, registry_root)
    made = _new_keys(settings, KeyPlace(settings.agency, hardware_suite, token_module, token_label), keep_opening)
    # Names and roles stand in the registry already; these are only there for the form's sake.
    asks = made.enrolment({"fr": settings.agency}, (), False, int(time.time()))
    request = _write_request(folder, asks, lost=True)
    revoke = f"umuhuza registry revoke {settings.agency} --dir registre"
    _tell(
        folder,
        request,
        as_json=as_json,
        first=[
            t(
                f"1. Téléphonez MAINTENANT au détenteur du registre : {revoke}",
                f"1. Telephone the registry holder NOW: {revoke}",
            ),
            t(
                f"2. Nouvelles clés de {settings.agency} créées dans {folder}.",
                f"2. New keys of {settings.agency} made in {folder}.",
            ),
        ],
        then=APPROVE,
    )


def renew(
    folder: Folder,
    hardware_suite: HardwareSuite = False,
    token_module: TokenModule = None,
    token_label: TokenLabel = None,
    as_json: Json = False,
) -> None:
    settings = load_agency(folder)
    registry = RegistryFile(settings.registry, registry_pin(settings.registry_root), time.monotonic).registry
    known = registry.agency(settings.agency)
    place = KeyPlace(settings.agency, hardware_suite, token_module, token_label)
    made = _new_keys(settings, place, keep_opening=True)
    asks = made.enrolment(known.names, known.roles, known.protected, int(time.time()))
    _tell(
        folder,
        _write_request(folder, asks, lost=False),
        as_json=as_json,
        first=[
            t(
                f"Nouvelles clés de {settings.agency} ; les anciennes ouvrent encore ce qui leur est scellé.",
                f"New keys of {settings.agency}; the earlier ones still open what is sealed to them.",
            ),
            t(
                "Tant que la demande n'est pas approuvée, rien ne part. Relancez l'adaptateur.",
                "Until the request is approved nothing leaves. Start the adapter again.",
            ),
        ],
        then=APPROVE,
    )


def words(folder: Folder, as_json: Json = False) -> None:
    file = folder / REQUEST
    if not file.is_file():
        raise SettingsError("no request in this folder", "pas de demande d'inscription dans ce dossier")
    _tell(folder, read_request(file.read_bytes()), as_json=as_json, first=[], then="")


def _prepared(folder: Path, agency: str | None, gateway: str | None, registry_root: str | None) -> AgencySettings:
    """The settings that are there; in an empty folder those that are given."""
    if (folder / FILE_NAME).exists():
        found = load_agency(folder)
        if agency not in (None, found.agency):
            raise typer.BadParameter(
                t("ce dossier est d'une autre agence", "this folder is another agency's"), param_hint="--agency"
            )
        return found
    if agency is None or gateway is None or registry_root is None:
        raise typer.BadParameter(
            t(
                "dossier vide : donnez aussi --agency, --gateway et --registry-root",
                "an empty folder: give --agency, --gateway and --registry-root too",
            ),
            param_hint="--dir",
        )
    operator = f"{agency.partition('/')[0]}/operator"
    check_settings(agency, gateway, registry_root, operator, None)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_settings(folder, agency, gateway, registry_root, operator, language=language())
    return load_agency(folder)


def _new_keys(settings: AgencySettings, place: KeyPlace, keep_opening: bool) -> Keys:
    """New keys in the place of those that are there, which stay under another name. Raises KeyStoreError."""
    if keep_opening:
        try:
            file = read_key_file(settings.keys)
        except OSError:
            raise KeyStoreError("keys_damaged", "keys") from None
        if file.kind == "device":
            raise typer.BadParameter(
                t(
                    "les clés d'un dispositif n'en sortent pas : faites d'abord remettre ce qui est arrivé, puis lost",
                    "a device's keys never leave it: have what has arrived handed over first, then lost",
                ),
                param_hint="--dir",
            )
        place = replace(place, opens=file.open(current_passphrase))
    aside = _put_aside(settings.keys)
    try:
        return place(settings.keys)
    except BaseException:
        if aside is not None and not settings.keys.exists():
            aside.rename(settings.keys)  # as it was: no passphrase was given, or the device was not there
        raise


def _put_aside(keys: Path) -> Path | None:
    """Earlier keys stay beside the new ones under another name: somebody may still need them. None: there are none."""
    if not keys.exists():
        return None
    for number in range(1, 1000):
        aside = keys.with_name(f"{keys.name}.lost-{number}")
        if not aside.exists():
            return keys.rename(aside)
    raise FileExistsError(keys)


def _write_request(folder: Path, agency: Agency, *, lost: bool) -> Request:
    text = dumps_request(agency, lost=lost)
    replace_file(folder / REQUEST, text.encode("utf-8"))
    return read_request(text.encode("utf-8"))


def _tell(folder: Path, request: Request, *, as_json: bool, first: Sequence[str], then: str) -> None:
    """The request's words, and the domain's."""
    settings = load_agency(folder)
    domain = domain_words(settings)
    said: dict[str, Any] = {
        "ok": True,
        "agency": settings.agency,
        "request": str(folder / REQUEST),
        "lost": request.lost,
        "keys": read_key_file(settings.keys).kind,
        "words": {"fr": list(request.words("fr")), "en": list(request.words("en"))},
        "domain_words": {spoken: list(found) for spoken, found in domain.items()},
    }
    result(
        said,
        as_json=as_json,
        lines=[
            *first,
            t(
                f"Envoyez {folder / REQUEST} au détenteur du registre, par n'importe quelle voie.",
                f"Send {folder / REQUEST} to the registry holder, by any way.",
            ),
            t(
                "Au téléphone, à un numéro que vous connaissiez déjà, lisez-lui ces douze mots :",
                "On the telephone, at a number that you knew before, read out these twelve words:",
            ),
            *(f"    {row}" for row in grouped(request.words(language()))),
            *([t(f"Il les tape dans : {then}", f"They are typed into: {then}")] if then else []),
            t(
                "Il vous lit ceux du domaine ; ce doivent être les mêmes, sinon arrêtez tout :",
                "You are read the domain's; they must be these, else stop:",
            ),
            *(f"    {row}" for row in grouped(domain[language()])),
            t(f"Ensuite : umuhuza agency run --dir {folder}", f"Next: umuhuza agency run --dir {folder}"),
        ],
    )


def add_to(app: typer.Typer) -> None:
    """The commands, in the language of this process."""
    app.command(
        name="enrol",
        help=t(
            "Inscrit une agence : clés, phrase de passe, demande, douze mots à lire au téléphone.",
            "Enrol an agency: keys, passphrase, request, twelve words to read on the telephone.",
        ),
    )(enrol)
    app.command(
        name="lost",
        help=t(
            "Ordinateur, clés ou phrase de passe perdus : nouvelles clés, et que faire dans l'heure.",
            "Computer, keys or passphrase lost: new keys, and what to do within the hour.",
        ),
    )(lost)
    app.command(
        name="renew",
        help=t(
            "Nouvelles clés avant que les anciennes n'expirent, trois ans après leur création.",
            "New keys before the earlier ones expire, three years after they were made.",
        ),
    )(renew)
    app.command(
        name="words",
        help=t("Redonne les mots à lire au téléphone.", "Show again the words to read on the telephone."),
    )(words)
