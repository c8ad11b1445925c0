"""`danbao platforms key`: keys made, registered, rotated and listed, as the installed command does it.

In: a ledger with a platform that is no example. Out: a private key of its owner's alone, rows in the registry.
"""

import json
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command import run
from languages import is_chinese

from consumers.push import read_key
from ledger import signing

OLD, NEW = "ab" * 32, "cd" * 32


@pytest.fixture
def kuaisong(ledger_url: str) -> str:
    """The address of a ledger that knows the platform kuaisong."""
    danbao(
        ledger_url,
        *("platforms", "add", "kuaisong", "--name", "Kuaisong", "--name-zh", "快送", "--uscc", "91310000MA1FL4Q87R"),
        *("--line", "instant_delivery", "--province", "31=2026-07-01"),
    )
    return ledger_url


def danbao(url: str, *arguments: str, language: str = "en", code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run([*arguments], Path.cwd(), {"DANBAO_DATABASE_URL": url}, language)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def key(url: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `danbao platforms key … --json` says."""
    found: dict[str, Any] = json.loads(danbao(url, "platforms", "key", *arguments, "--json", code=code).stdout)
    return found


def later(minutes: int) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def test_a_new_key_is_its_owners_alone_and_never_overwrites_another(tmp_path: Path):
    file = tmp_path / "kuaisong.pem"
    printed = danbao("", "platforms", "key", "new", "--out", str(file))
    public = printed.stdout.strip()
    assert signing.public_text(read_key(file)) == public
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert "exists already" in key("", "new", "--out", str(file), code=2)["error"]
    assert file.read_bytes() == before
    assert "No such file or directory" in key("", "new", "--out", str(tmp_path / "none" / "key.pem"), code=2)["error"]


def test_two_new_keys_are_two(tmp_path: Path):
    made = [key("", "new", "--out", str(tmp_path / name))["public_key"] for name in ("a.pem", "b.pem")]
    assert made[0] != made[1]


def test_a_key_is_registered_as_soon_as_may_be_and_rotated(kuaisong: str):
    assert key(kuaisong, "list", "kuaisong") == {"platform_id": "kuaisong", "keys": []}
    added = key(kuaisong, "add", "kuaisong", "--public-key", OLD)
    assert added["changed"] is True
    [standing] = added["keys"]
    assert (standing["public_key"], standing["state"], standing["in_force_until"]) == (OLD, "coming", None)
    notice = datetime.fromisoformat(standing["in_force_from"]) - datetime.now(UTC)
    assert timedelta(minutes=15) < notice <= timedelta(minutes=16)
    turn = later(60 * 24)
    assert key(kuaisong, "add", "快送", "--public-key", NEW, "--from", turn)["changed"] is True
    assert key(kuaisong, "add", "快送", "--public-key", NEW.upper(), "--from", turn)["changed"] is False
    ended = key(kuaisong, "end", "kuaisong", "--public-key", OLD, "--until", later(60 * 48))
    assert ended["changed"] is True
    assert [(one["public_key"], one["in_force_until"] is None) for one in ended["keys"]] == [(OLD, False), (NEW, True)]
    assert key(kuaisong, "list", "kuaisong")["keys"] == ended["keys"]


def test_a_key_ends_as_soon_as_may_be_where_no_time_is_given(kuaisong: str):
    key(kuaisong, "add", "kuaisong", "--public-key", OLD)
    [ended] = key(kuaisong, "end", "kuaisong", "--public-key", OLD)["keys"]
    notice = datetime.fromisoformat(ended["in_force_until"]) - datetime.now(UTC)
    assert timedelta(minutes=15) < notice <= timedelta(minutes=16)


def test_mistakes_with_keys_are_said(kuaisong: str):
    key(kuaisong, "add", "kuaisong", "--public-key", OLD)
    for arguments, said in (
        (("add", "kuaisong", "--public-key", "ab"), "not a public key of 64 hexadecimal digits"),
        (("add", "nobody", "--public-key", NEW), "'nobody' is not a registered platform"),
        (("add", "kuaisong", "--public-key", NEW, "--from", later(5)), "is too soon"),
        (("add", "kuaisong", "--public-key", NEW, "--from", "2026-12-01"), "not an instant with an offset"),
        (("add", "kuaisong", "--public-key", OLD, "--from", later(600)), "That key is registered, in force from"),
        (("end", "kuaisong", "--public-key", NEW), "no such key"),
        (("list", "nobody"), "'nobody' is not a registered platform"),
    ):
        assert said in key(kuaisong, *arguments, code=2)["error"], arguments


@pytest.mark.parametrize("language", ["en", "zh"])
def test_keys_are_shown_in_the_readers_language(kuaisong: str, language: str):
    said = {"en": ("Registered.", "not yet in force"), "zh": ("已登记。", "尚未生效")}[language]
    shown = danbao(kuaisong, "platforms", "key", "add", "kuaisong", "--public-key", OLD, language=language).stdout
    assert all(one in shown for one in said)
    assert OLD in shown
    assert is_chinese(shown) == (language == "zh")
    listed = danbao(kuaisong, "platforms", "key", "list", "kuaisong", language=language).stdout
    assert OLD in listed
    assert is_chinese(listed) == (language == "zh")
