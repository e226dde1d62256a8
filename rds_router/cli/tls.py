"""``rds-router tls``: what a server presents to those who want to sign in to it over TLS."""

from __future__ import annotations

import time

import click
from rich.console import Console

from rds_router.credentials.presented import Certificate, NoTls, Presented, Protocol, presented


@click.command()
@click.argument("place", metavar="HOST:PORT")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="Verify against the authorities in this file.")
@click.option("--protocol", type=click.Choice(["mysql", "postgresql"]), help="Found out when not given.")
def tls(place: str, ca: str | None, protocol: Protocol | None) -> None:
    """Show a server's certificates, whom they are for and how long, and the versions of TLS it accepts.

    Nobody signs in. Exit code 0; 1 if --ca does not verify it, a certificate has ended, or there is no TLS.
    """
    host, port = _split(place)
    console = Console(highlight=False, soft_wrap=True)
    try:
        shown = presented(host, port, protocol=protocol, ca=ca)
    except (NoTls, OSError) as error:
        console.print(f"{place}: {error}", markup=False)
        raise SystemExit(1) from None
    now = time.time()
    for line in lines(shown, place, ca, now):
        console.print(line, markup=False)
    if shown.refusal or any(each.ends_at < now for each in shown.chain):
        raise SystemExit(1)


def lines(shown: Presented, place: str, ca: str | None, now: float) -> list[str]:
    """The text for people."""
    names = ", ".join(shown.chain[0].names) if shown.chain else ""
    told = [
        f"{place} speaks {shown.protocol}, {shown.version} with {shown.cipher}; accepts {', '.join(shown.versions)}",
        f"it is for: {names or 'no name at all'}",
        *(line for number, each in enumerate(shown.chain) for line in _described(number, each, now)),
    ]
    if ca is not None:
        told.append(f"{ca}: {'verified' if not shown.refusal else f'NOT verified: {shown.refusal}'}")
    return told


def _described(number: int, certificate: Certificate, now: float) -> list[str]:
    days = (certificate.ends_at - now) / 86400
    left = f"{days:.0f} days left" if days >= 0 else f"ENDED {-days:.0f} days ago"
    return [
        f"{number}: {certificate.subject}",
        f"   signed by {certificate.issuer}",
        f"   from {certificate.not_before} to {certificate.not_after} ({left})",
    ]


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise click.BadParameter(f"{place!r} is not of the form HOST:PORT", param_hint="HOST:PORT")
    return host.strip("[]"), int(port)
