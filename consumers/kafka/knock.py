"""Making a client of Kafka's, or saying why Kafka did not let it in.

In: what makes the client, and who we are. Out: the client; a DanbaoError that names the cause and what to do, never
the password. kafka-python tries again for as long as `bootstrap_timeout_ms` lasts whatever the cause, then tells only
that time ran out; the cause it writes to its log, which is where it is taken from.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from kafka.errors import KafkaError, KafkaTimeoutError, RequestTimedOutError, SaslAuthenticationFailedError

from consumers.kafka.settings import Access
from ledger.errors import DanbaoError
from schemas.both import Both

Client = TypeVar("Client")
TIME_RAN_OUT = (KafkaTimeoutError, RequestTimedOutError)  # the last try is cut short, which is no cause
LOG = logging.getLogger("kafka.net.manager")


class _Causes(logging.Handler):
    """The errors that connections failed with, the last one last, but for time that ran out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        causes = (one for one in arguments if isinstance(one, BaseException))
        self.found += [one for one in causes if not isinstance(one, TIME_RAN_OUT)]


def enter(make: Callable[..., Client], access: Access, options: dict[str, Any]) -> Client:
    """The client, connected."""
    causes = _Causes()
    LOG.addHandler(causes)
    try:
        return make(**options)
    except (KafkaError, ValueError, OSError) as error:
        raise refusal(access, causes.found[-1] if causes.found else error) from None
    finally:
        LOG.removeHandler(causes)


def refusal(access: Access, cause: BaseException) -> DanbaoError:
    """Why Kafka did not let us in, and what to do."""
    where = access.bootstrap
    if access.user and _is_of_the_login(cause):
        return DanbaoError(
            Both(
                f"Kafka at {where} hung up on {access.user}: it does not know this user, or not by this password.",
                f"{where} 处的 Kafka 拒绝用户 {access.user} 登录：没有此用户，或密码不符。",
            ),
            Both(
                "See DANBAO_KAFKA_USER and DANBAO_KAFKA_PASSWORD_FILE;"
                " who may add users makes a new password: danbao kafka users add NAME --replace",
                "请检查 DANBAO_KAFKA_USER 与 DANBAO_KAFKA_PASSWORD_FILE；"
                "可由管理员重设密码：danbao kafka users add 用户名 --replace",
            ),
        )
    if access.ca and "CERTIFICATE" in str(cause).upper():
        return DanbaoError(
            Both(
                f"Whoever answers at {where} has no certificate that {access.ca} vouches for ({cause}).",
                f"{where} 的证书未获 {access.ca} 认可（{cause}）。",
            ),
            Both(
                "Name the brokers by the names in their certificates, and the authority that signed them in"
                " DANBAO_KAFKA_CA. If both are right, somebody else answers there: do not go on.",
                "请用证书中的名称指明服务器，并在 DANBAO_KAFKA_CA 中指明其签发机构。"
                "若两者无误，则对方并非该服务器，切勿继续。",
            ),
        )
    fix = Both(
        "See whether it runs (danbao kafka status), and whether DANBAO_KAFKA_BOOTSTRAP names it rightly;"
        " unset that where its Kafka is gone.",
        "请查看它是否在运行（danbao kafka status），以及 DANBAO_KAFKA_BOOTSTRAP 是否正确；"
        "若该 Kafka 已不存在，请 unset 此变量。",
    )
    if not access.user:
        fix = Both(
            f"{fix.en} If it asks for TLS and a password, name them: DANBAO_KAFKA_CA, DANBAO_KAFKA_USER,"
            " DANBAO_KAFKA_PASSWORD_FILE.",
            f"{fix.zh}若它要求 TLS 与密码，请设置 DANBAO_KAFKA_CA、DANBAO_KAFKA_USER、DANBAO_KAFKA_PASSWORD_FILE。",
        )
    return DanbaoError(Both(f"No Kafka answers at {where} ({cause}).", f"{where} 处没有 Kafka 响应（{cause}）。"), fix)


def _is_of_the_login(cause: BaseException) -> bool:
    """Whether we were sent away when we said who we are.

    The broker answers and hangs up at once, and the client throws away what comes together with the end: then it only
    knows that the line was cut, after TLS, where nothing is said but the login.
    """
    return isinstance(cause, SaslAuthenticationFailedError) or "socket disconnected" in str(cause)
