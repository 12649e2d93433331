"""docs/aws.md names what is there: parameters, outputs, and AWS's own commands."""

import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from tests.stack import NEEDED, Stack, expanded

TEXT = (Path(__file__).parents[3] / "docs" / "aws.md").read_text()
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


def test_the_deployment_gives_what_has_no_default():
    (overrides,) = re.findall(r"--parameter-overrides (.*)", code())
    given = dict(word.split("=", 1) for word in shlex.split(overrides))

    assert set(NEEDED) == set(given)


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
