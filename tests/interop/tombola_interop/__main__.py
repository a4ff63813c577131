"""`python -m tombola_interop`: vectors, keys, live runs against nodes, an offline checker. Prints one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from . import bech32m, live, offline, provoke, provoke_recovery, vectors
from .codes import Refused
from .keys import Address, Secret


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tombola_interop", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("vectors", help="check every vector of a directory")
    add.add_argument("directory", type=Path)
    add = commands.add_parser("account", help="show the account of a seed")
    add.add_argument("--seed", required=True, type=bytes.fromhex)
    for name, text in (
        ("buy", "buy, resume, tip"),
        ("audit", "draw every charge again"),
        ("provoke", "every code"),
        ("lose", "open and redeem a hold that the escrow will lose"),
        ("recover", "bring it back"),
    ):
        add = commands.add_parser(name, help=text)
        add.add_argument("--seed", required=True, type=bytes.fromhex)
        add.add_argument("--escrow", required=True, type=Address.parse)
        add.add_argument("--payee", type=Address.parse)
        add.add_argument("--files", type=Path)
        add.add_argument("--state", type=Path)
        add.add_argument("--payee-pid", type=int)
    add = commands.add_parser("check", help="check evidence offline")
    offline.add_arguments(add)
    return parser.parse_args()


def run(given: argparse.Namespace) -> dict[str, Any]:
    match given.command:
        case "vectors":
            return {"vectors": vectors.run(given.directory)}
        case "account":
            return {"account": bech32m.encode("tom", Secret(given.seed).key)}
        case "buy":
            secret = Secret(given.seed)
            return asyncio.run(live.buy(given.escrow, given.payee, secret, given.files, given.state))
        case "audit":
            return asyncio.run(live.audit(given.escrow, Secret(given.seed), given.state))
        case "provoke":
            return asyncio.run(provoke.run(given.escrow, given.payee, Secret(given.seed), given.payee_pid))
        case "lose":
            return asyncio.run(provoke_recovery.lose(given.escrow, Secret(given.seed), given.state))
        case "recover":
            return asyncio.run(provoke_recovery.recover(given.escrow, Secret(given.seed), given.state))
        case _:
            return offline.check(given)


def main() -> int:
    given = arguments()
    try:
        print(json.dumps(run(given)))
    except Refused as refused:
        error = {"code": refused.code.name.lower(), "need": refused.need, "has": refused.has}
        print(json.dumps({"error": error}))
        return 6
    return 0


sys.exit(main())
