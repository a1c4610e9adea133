"""The documentation says what the code does: settings, frames, modules, files, commands."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import get_commands

from accounts import conf as accounts_conf
from realtime import conf as realtime_conf
from realtime.protocol import messages
from realtime.protocol.client_frames import ClientFrame, parse_frame
from realtime.protocol.exceptions import CloseCode, ErrorCode
from realtime.protocol.gateway_frames import GatewayFrame

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCS += sorted((ROOT / "docs").glob("*.md"))
CONFIGURATION = ROOT / "docs" / "configuration.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
APPS = ("realtime", "accounts", "gateway_project")
MESSAGE_FIELDS = {
    *("topic", "pattern", "seqNo", "prevSeqNo", "messageId", "ts", "data", "encoding"),
    "redelivered",
}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(path: Path, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above."""
    level = heading.split(" ", maxsplit=1)[0]
    _, found, rest = f"\n{text_of(path)}".partition(f"\n{heading}\n")
    assert found, f"{path.name} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> dict[str, list[str]]:
    """Return the table rows whose first cell begins with code: that code, and the other cells."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and (name := CODE.match(cells[0])):
            found[name[1]] = [cell.strip(" |") for cell in cells[1:]]
    return found


def subclasses(base: type) -> Iterator[Any]:
    for cls in base.__subclasses__():
        yield cls
        yield from subclasses(cls)


def fields_of(frame: Any) -> set[str]:
    """Return the names of a frame's own fields as they stand on the wire."""
    return {field.encode_name for field in msgspec.structs.fields(frame)} - {"id"}


def python_files(*parts: str) -> list[Path]:
    files = [path for part in parts for path in (ROOT / part).rglob("*.py")]
    return [path for path in files if "migrations" not in path.parts]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    ("heading", "defaults"),
    [("## `REALTIME`", realtime_conf.DEFAULTS), ("## `ACCOUNTS`", accounts_conf.DEFAULTS)],
)
def test_settings_on_the_page_are_those_of_the_code(heading: str, defaults: dict[str, Any]) -> None:
    written = {
        name: ast.literal_eval(cells[0].strip("`"))
        for name, cells in rows(section(CONFIGURATION, heading)).items()
    }
    assert written == defaults
    assert {name: type(value) for name, value in written.items()} == {
        name: type(value) for name, value in defaults.items()
    }


def test_environment_variables_on_the_page_are_those_of_the_code() -> None:
    code = "".join(text_of(path) for path in [*python_files(*APPS), ROOT / "manage.py"])
    read = re.findall(r'(?:env\.\w+|environ\.get|environ\.setdefault|choice)\(\s*"([A-Z_]+)"', code)
    assert set(rows(section(CONFIGURATION, "## Environment variables"))) == set(read)


def test_system_checks_on_the_page_are_those_of_the_code() -> None:
    files = [path for app in ("realtime", "accounts") for path in (ROOT / app).glob("*checks.py")]
    code = "".join(map(text_of, files))
    ids = set(re.findall(r'id="([\w.]+)"', code))
    assert set(rows(section(CONFIGURATION, "## System checks"))) == ids


@pytest.mark.parametrize("frame", sorted(subclasses(ClientFrame), key=lambda one: one.__name__))
def test_client_frame_has_a_section_that_names_its_fields(frame: Any) -> None:
    tag = frame.__struct_config__.tag
    if tag == "setup":
        assert "`setup`" in section(PROTOCOL, "### `connect`")
        return
    heading = section(PROTOCOL, "## Frames from the client")
    assert f"\n### `{tag}`\n" in heading
    named = re.findall(rf"\n### `{tag}`\n(.*?)(?=\n### |\Z)", heading, re.DOTALL)[0]
    assert fields_of(frame) <= set(CODE.findall(named))


@pytest.mark.parametrize("frame", sorted(subclasses(GatewayFrame), key=lambda one: one.__name__))
def test_gateway_frame_has_a_section_that_names_its_fields(frame: Any) -> None:
    tag = frame.__struct_config__.tag
    heading = section(PROTOCOL, "## Frames from the gateway")
    named = re.findall(rf"\n### `{tag}`\n(.*?)(?=\n### |\Z)", heading, re.DOTALL)
    assert named, f"docs/protocol.md has no section for the frame {tag}"
    assert fields_of(frame) <= set(CODE.findall(named[0]))


def test_message_frame_section_names_its_fields() -> None:
    heading = section(PROTOCOL, "## Frames from the gateway")
    named = re.findall(r"\n### `message`\n(.*?)(?=\n### )", heading, re.DOTALL)[0]
    assert set(rows(named)) == MESSAGE_FIELDS


def test_frame_sections_are_all_frames_of_the_code() -> None:
    for heading, base, others in (
        ("## Frames from the client", ClientFrame, {"setup"}),
        ("## Frames from the gateway", GatewayFrame, set()),
    ):
        written = set(re.findall(r"^### `(\w+)`", section(PROTOCOL, heading), re.MULTILINE))
        tags = {frame.__struct_config__.tag for frame in subclasses(base)} - others
        assert written - {"message"} == tags


def test_frame_examples_are_frames() -> None:
    sent = re.findall(r"^→ (.+)$", text_of(PROTOCOL), re.MULTILINE)
    received = re.findall(r"^← (.+)$", text_of(PROTOCOL), re.MULTILINE)
    assert len(sent) > 10
    assert len(received) > 15
    for line in sent:
        parse_frame(line)
    known = {frame.__struct_config__.tag: fields_of(frame) for frame in subclasses(GatewayFrame)}
    known["message"] = MESSAGE_FIELDS
    for line in received:
        example = json.loads(line)
        assert set(example) - {"type", "id"} <= known[example["type"]], line


def test_error_codes_on_the_page_are_those_of_the_code() -> None:
    assert set(rows(section(PROTOCOL, "## Error codes"))) == {code.value for code in ErrorCode}


def test_close_codes_on_the_page_are_those_of_the_code() -> None:
    written = re.findall(
        r"^\| (\d{4}) \| `(\w+)` \|", section(PROTOCOL, "## Close codes"), re.MULTILINE
    )
    assert {name: int(code) for code, name in written} == {
        code.name: code.value for code in CloseCode
    }


@pytest.mark.parametrize(
    ("heading", "structs"),
    [
        ("## Auth", [messages.AuthRequest, messages.AuthReply]),
        ("## Control", [messages.ControlUser, messages.ControlAcl]),
    ],
)
def test_nats_messages_name_their_fields(heading: str, structs: list[Any]) -> None:
    named = set(rows(section(PROTOCOL, heading)))
    assert named == set().union(*map(fields_of, structs))


def test_auth_examples_are_messages() -> None:
    examples = [json.loads(body) for _, body in FENCE.findall(section(PROTOCOL, "## Auth"))]
    messages.parse_auth_request(json.dumps(examples[0]).encode())
    assert [type(messages.parse_auth_reply(json.dumps(one).encode())) for one in examples[1:]] == [
        messages.Identity,
        messages.Identity,
        str,
    ]


def test_modules_are_told_in_the_architecture() -> None:
    told = rows(text_of(ARCHITECTURE))
    told = {name if "/" in name else f"realtime/protocol/{name}" for name in told}
    # A row may stand for a folder, but not for a whole app or floor.
    folders = {name for name in told if name.endswith("/")}
    folders -= {f"{app}/" for app in APPS} | {"realtime/protocol/"}
    modules = {str(path.relative_to(ROOT)) for path in python_files(*APPS)}
    missing = {
        name
        for name in modules - told
        if not name.endswith("__init__.py") and not name.startswith(tuple(folders))
    }
    assert missing == set()
    assert {name for name in told if name.endswith(".py")} <= modules


def test_names_in_the_architecture_exist() -> None:
    members: dict[str, set[str]] = {}
    for path in python_files(*APPS):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.ClassDef):
                names = {one.name for one in node.body if hasattr(one, "name")}
                members.setdefault(node.name, set()).update(names)
    code = "\n".join(CODE.findall(text_of(ARCHITECTURE)))
    told = re.findall(r"^(_?[A-Z]\w+)\.(\w+)$", code, re.MULTILINE)
    assert len(told) > 20
    assert [f"{cls}.{name}" for cls, name in told if name not in members.get(cls, ())] == []


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(doc: Path) -> None:
    for target in LINK.findall(FENCE.sub("", text_of(doc))):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = doc.parent / name if name else doc
        assert file.exists(), f"{doc.name}: {target}"
        if anchor:
            assert anchor in anchors(text_of(file)), f"{doc.name}: {target}"


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_files_that_are_named_exist(doc: Path) -> None:
    roots = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
    for name in CODE.findall(FENCE.sub("", text_of(doc))):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", name) and name.split("/")[0] in roots:
            # What make or a running gateway writes is not in the repository.
            assert name.startswith(("var/", "staticfiles/")) or (ROOT / name).exists(), name


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(doc: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    code = [body for _, body in FENCE.findall(text_of(doc))] + CODE.findall(text_of(doc))
    assert set(re.findall(r"^make ([a-z]+)", "\n".join(code), re.MULTILINE)) <= targets


@pytest.mark.parametrize("doc", DOCS, ids=lambda path: path.name)
def test_commands_that_are_named_exist(doc: Path) -> None:
    assert set(re.findall(r"manage\.py ([a-z]\w+)", text_of(doc))) <= set(get_commands())
