"""danbao kafka users: let somebody into a Kafka by a password that nobody has seen.

In: a name, the Kafka of `DANBAO_KAFKA_BOOTSTRAP`, as a user who may alter it. Out: a file of the password that its
owner alone can read, and in Kafka its salted hash. What the user may do is said by `danbao kafka acls`.
"""

import os
import re
import secrets
from pathlib import Path
from typing import Annotated

import typer

from ledger.cli import common, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from schemas.both import Both
from schemas.rights import USER

PASSWORD_BYTES = 32

app = typer.Typer(cls=usage.Group, no_args_is_help=True, help=say("Users: add.", "用户：添加。"))


@app.command(cls=usage.Command)
@common.command("添加 SCRAM-SHA-512 用户；密码随机生成，写入仅本人可读的文件，不会显示。")
def add(
    name: Annotated[
        str, typer.Argument(help=say("The user; platform-ID for a platform.", "用户名；平台为 platform-标识。"))
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            help=say("Where to write the password; default: NAME.password.", "密码写入何处；默认为 用户名.password。")
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help=say("A new password for a user who has one.", "为已有用户重设密码。"),
        ),
    ] = False,
    as_json: common.AsJson = False,
) -> None:
    """Add a SCRAM-SHA-512 user; the password is made here, written to a file of yours alone, and never shown.

    Example: danbao kafka users add platform-kuaisong
    """
    from consumers.kafka import grants, topics

    if not re.fullmatch(USER, name):
        raise BadQuestion(
            Both(f"{name!r} is no name for a user.", f"{name!r} 不能用作用户名。"),
            Both("Small letters, digits, dots, dashes.", "请用小写字母、数字、点和连字符。"),
        )
    path = file or Path(f"{name}.password")
    with topics.connect(common.kafka_access()) as admin:
        if grants.has_password(admin, name) and not replace:
            raise BadQuestion(
                Both(f"The user {name} has a password already.", f"用户 {name} 已有密码。"),
                Both("Give --replace to make a new one; the old one ends.", "加 --replace 可重设，旧密码随即失效。"),
            )
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        _keep(path, password)
        try:
            grants.set_password(admin, name, password)
        except BaseException:
            path.unlink()
            raise
    if as_json:
        common.print_json({"user": name, "password_file": str(path)})
    else:
        text = say(f"{name} comes in by the password in {path}.", f"用户 {name} 的密码已写入 {path}。")
        common.out.print(text, markup=False, soft_wrap=True)


def _keep(path: Path, password: str) -> None:
    """Write it to a new file that nobody else can read."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadQuestion(
            Both(f"{path} cannot be made: {error.strerror}.", f"无法创建 {path}：{error.strerror}。"),
            Both("Name a file that does not exist yet: --file", "请用 --file 指定一个尚不存在的文件。"),
        ) from None
    with os.fdopen(file, "w") as writing:
        writing.write(f"{password}\n")
