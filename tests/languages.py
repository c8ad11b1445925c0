"""How tests tell Chinese from English. In: a text. Out: whether it is in the language that it should be in."""

import re

from schemas.both import Both

HAN = re.compile("[\u4e00-\u9fff]")
UNIT = "毫"  # the unit of money has no English word
PYDANTIC_ONLY = "不符合要求"  # the Chinese head of what pydantic says in English


def is_chinese(text: str) -> bool:
    """Whether a Chinese reader can read it."""
    return bool(HAN.search(text.replace(UNIT, "")))


def speaks_both(text: Both) -> bool:
    """Whether each half is in its language, and the Chinese one not in English behind a Chinese head."""
    return is_chinese(text.zh) and not is_chinese(text.en) and PYDANTIC_ONLY not in text.zh
