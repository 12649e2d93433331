"""docs/aws.md names what is there: parameters, outputs, and AWS's own commands."""

import json
import re
import subprocess
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from deploy.aws import zips
from tests.stack import NEEDED, Stack, expanded

ROOT = Path(__file__).parents[3]
TEXT, DEPLOYING = (
    (ROOT / "docs" / name).read_text() for name in ("aws.md", "deploying.md")
)
STEP = re.compile(r"^## (\d)\. .*?\n(.*?)(?=^## )", re.DOTALL | re.MULTILINE)
TYPED_AND_SEEN = re.compile(
    r"^```sh\n.*?^```\n\n^```text\n.*?^```$", re.DOTALL | re.MULTILINE
)
NAME = re.compile(r"^(\w+)=", re.MULTILINE)
CLI_OPTIONS = {"query", "output", "protocol", "port", "cidr"}
"""Options that no service knows, but the command line."""

MADE_BY_THE_CLI = {"s3", "cloudformation package", "cloudformation deploy", "logs tail"}
"""Commands that are no operation of a service."""


def code():
    """All shell of the page, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    return "".join(blocks).replace("\\\n", " ")


def commands():
    """Each command of AWS, by its service, its name and its options."""
    inline = re.findall(r"`(aws [^`]+)`", TEXT)
    found = re.findall(
        r"\baws ([a-z0-9]+) ([a-z0-9-]+)([^\n]*)", code() + "\n".join(inline)
    )
    return [
        (service, name, set(re.findall(r" --([a-z-]+)", options)))
        for service, name, options in found
    ]


def cells(first):
    """First cells of the table that begins with this heading."""
    (table,) = re.findall(rf"^\| {first} \|.*?\n\n", TEXT, re.DOTALL | re.MULTILINE)
    rows = table.strip().splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_tables_have_every_parameter_and_every_output():
    template = expanded()

    assert set(template["Parameters"]) == set(NEEDED) | cells("parameter")
    assert set(template["Outputs"]) == cells("output")


def test_the_deployments_give_what_has_no_default_then_the_secret_alone():
    """
    By standard input, in a form that ``aws cloudformation deploy`` takes.
    """
    inputs = re.findall(
        r"--parameter-overrides file:///dev/stdin <<END\n(.*?)\nEND\n",
        code(),
        re.DOTALL,
    )
    given = [dict(one.split("=", 1) for one in json.loads(text)) for text in inputs]

    assert [set(NEEDED), {"IngestSecret"}] == list(map(set, given))
    assert 3 == code().count("aws cloudformation deploy ")


NEW_SHELL, FIRST_DAY = re.findall(
    r"^```sh\n(.*?)^```$", STEP.search(TEXT)[2], re.DOTALL | re.MULTILINE
)
CHANGING = TEXT.partition("\n## Changing, and going\n")[2].partition("\n## ")[0]


def names(shell):
    """Variables and functions that a piece of shell defines, and those it uses."""
    defined = set(re.findall(r"^ *(\w+)(?:=|\(\) )", shell, re.MULTILINE))
    defined |= set(re.findall(r"\bfor (\w+) in", shell))
    used = set(re.findall(r"\$\{?#?([A-Za-z_]\w*)", shell))
    return defined, used | set(
        re.findall(r"\b(output|machine|secret)\b(?! *\()", shell)
    )


def test_a_new_shell_has_all_that_changing_needs_and_makes_no_secret():
    there, _ = names(NEW_SHELL)
    blocks = re.findall(r"^```sh\n(.*?)^```$", CHANGING, re.DOTALL | re.MULTILINE)

    assert 5 == len(blocks)
    for block in blocks:
        defined, used = names(block)
        assert used <= there | defined
    assert "SECRET" not in NEW_SHELL
    assert "KEY" not in NEW_SHELL
    assert {"INGEST_SECRET", "API_KEY"} <= names(FIRST_DAY)[0]


def test_a_block_can_be_pasted_into_zsh():
    """
    Which knows no comments while somebody types, has a HOST of its own, and is
    what a Mac comes with, where there is no getent.
    """
    ours = "\n".join(
        block
        for number, body in (*steps().items(), (0, TEXT.partition("\n## When ")[2]))
        if number != ON_THE_MACHINE
        for block in re.findall(r"^```sh\n(.*?)^```$", body, re.DOTALL | re.MULTILINE)
    )

    assert [] == re.findall(r"(?:^|\s)#.*", code())
    assert [] == re.findall(r"\bHOST\b|\bgetent\b", ours)


ON_THE_MACHINE = 7
"""The step whose blocks are for a Debian's bash."""

SECRET = re.compile(
    r"\$(?:INGEST_SECRET|API_KEY|PASSWORD|URL)\b|cat /etc/reelready/sec"
)


@pytest.mark.parametrize("document", ["aws", "deploying", "operating"])
def test_no_secret_is_an_argument(document):
    """
    `ps` shows those to everybody, and sudo logs them; ``echo`` is the shell's own.
    """
    text = (ROOT / "docs" / f"{document}.md").read_text()
    shell = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    shell = re.sub(r"<<END\n.*?\nEND\n", "\n", shell, flags=re.DOTALL)
    shell = shell.replace("\\\n", " ")
    given = re.sub(r"\b\w+=(?:\$\([^)]*\)|\S*)|(?:echo|printf) [^|>]*[|>]", "", shell)

    assert SECRET.search(shell)
    assert [] == [
        line
        for line in given.splitlines()
        if SECRET.search(line) and "| sha256sum" not in line
    ]


def test_the_settings_shown_are_those_of_the_output():
    (shown,) = re.findall(r"```text\n(AWS_REGION=.*?)```", TEXT, re.DOTALL)
    output = Stack().outputs["GatewaySettings"]

    assert [line.partition("=")[0] for line in output.splitlines()] == [
        line.partition("=")[0] for line in shown.splitlines()
    ]


def test_whatever_output_is_asked_for_is_there():
    asked = set(re.findall(r"output (\w+)", code())) - {"text", "json"}
    there = set(Stack().outputs) | set(Stack(GatewayIdentity="user").outputs)

    assert asked
    assert asked <= there


@pytest.mark.parametrize("service", sorted({one for one, _, _ in commands()}))
def test_every_command_of_aws_and_its_options_exist(service):
    for of, name, options in commands():
        if of != service or {of, f"{of} {name}"} & MADE_BY_THE_CLI:
            continue
        if name == "wait":
            continue
        model = botocore.session.get_session().get_service_model(service)
        operations = {
            xform_name(one, "-"): model.operation_model(one)
            for one in model.operation_names
        }
        members = operations[name].input_shape.members

        assert options <= CLI_OPTIONS | {xform_name(one, "-") for one in members}


def steps(text=TEXT):
    """Each numbered step, by its number."""
    return {int(number): body for number, body in STEP.findall(text)}


def test_each_block_of_a_step_is_followed_by_what_is_seen():
    assert list(range(1, 9)) == list(steps())
    for body in steps().values():
        blocks = re.findall(r"^```(\w+)\n", body, re.MULTILINE)

        assert ["sh", "text"] == blocks[:2]
        assert "sh sh" not in " ".join(blocks)
        assert "sh" != blocks[-1]


def test_the_machine_is_set_up_as_any_other():
    """
    But for secrets and settings, which step 6 brings.
    """
    there, *ours, doctor, back = TYPED_AND_SEEN.findall(steps()[7])
    others = steps(DEPLOYING)

    assert there.startswith("```sh\nmachine\n")
    assert back.startswith("```sh\nexit\n")
    typed = doctor.partition("```\n\n")[0]
    assert typed.endswith("\nhere doctor\n")
    assert typed in DEPLOYING
    assert ours == [
        block
        for number in (1, 2, 3, 4, 6, 7)
        for block in TYPED_AND_SEEN.findall(others[number])
    ]


def test_a_machine_has_every_setting_that_others_have(tmp_path):
    shipped = ROOT / "deploy" / "systemd" / "reelready.env"
    (added,) = re.findall(r"^(grep .*) >>build/reelready.env$", code(), re.MULTILINE)
    lines = subprocess.run(
        ["sh", "-c", added], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    ours = Stack().outputs["GatewaySettings"] + "\n" + lines

    assert set(NAME.findall(shipped.read_text())) <= set(NAME.findall(ours))
    assert lines in TEXT


def test_nothing_is_installed_without_its_hash():
    installed = re.findall(r"pip install .*", code())

    assert installed
    assert [] == [
        line
        for line in installed
        if "--require-hashes" not in line and "--no-deps" not in line
    ]


def test_only_who_sets_it_up_gets_in_on_22():
    assert [
        ("22", '"$ME/32"'),
        ("80", "0.0.0.0/0"),
        ("443", "0.0.0.0/0"),
    ] == re.findall(r"^allow (\d+) (\S+)$", code(), re.MULTILINE)


def test_no_file_with_a_secret_stays_behind():
    written = set(re.findall(r"(?:>|\btee )(build/[\w.-]+)", code()))
    removed = set(re.findall(r"\brm (build/[\w.-]+)", code()))

    assert {"build/key.pem"} == written - removed


def test_what_make_prints_is_what_is_shown(tmp_path, monkeypatch, capsys):
    """
    But for the sizes, which change with each change of the functions.
    """
    monkeypatch.chdir(tmp_path)
    zips.main(Path("build/lambdas"))

    assert re.sub(r"\d+ bytes", "NNNNN bytes", capsys.readouterr().out) in TEXT
