"""
The AWS template as CloudFormation would make it, without an account: expanded by
AWS's own SAM translator, every reference resolved, and who may do what.

Names are made up; what refers to what is not.
"""

import copy
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unittest.mock import patch

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[1] / "deploy" / "aws" / "template.yaml"
REGION = "ap-northeast-2"
ACCOUNT = "111122223333"
NAME = "reelready"
DOMAIN = "d111111abcdef8.cloudfront.net"
NEEDED = {
    "GatewayUrl": "https://reelready.example.com",
    "IngestSecret": "whsec_" + "c2VjcmV0" * 6,
    "AllowedOrigins": "https://app.example.com,http://localhost:3000",
}
"""The parameters without a default."""

_PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::StackName": NAME,
}
_ARNS = {
    "AWS::CloudFront::Distribution": "cloudfront::{account}:distribution/{name}",
    "AWS::Events::Rule": "events:{region}:{account}:rule/{name}",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}:*",
    "AWS::MediaConvert::Queue": "mediaconvert:{region}:{account}:queues/{name}",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
}
_REF_IS_ARN = {"AWS::IAM::ManagedPolicy", "AWS::SNS::Topic"}
_NO_VALUE = object()


@dataclass(frozen=True)
class Call:
    """
    Something that somebody did, or will do.

    Attributes:
        principal: Logical id of a role or managed policy, or a service.
        context: Condition keys, lower case, and their values.
    """

    principal: str
    action: str
    resource: str
    context: frozenset[tuple[str, str]] = frozenset()

    def __str__(self) -> str:
        return f"{self.principal} may not {self.action} on {self.resource}"


@dataclass(frozen=True)
class Grant:
    """One action on one resource of one statement, for or against a principal."""

    principal: str
    action: str
    resource: str
    conditions: tuple[tuple[str, str, str], ...] = ()
    allows: bool = True

    def __str__(self) -> str:
        return f"{self.principal} may {self.action} on {self.resource}, and never does"

    def is_about(self, call: Call) -> bool:
        context = dict(call.context)
        return (
            self.principal in {call.principal, "*"}
            and fnmatchcase(call.action.lower(), self.action.lower())
            and fnmatchcase(call.resource, self.resource)
            and all(context.get(key) == value for _, key, value in self.conditions)
        )


def refused(calls: Iterable[Call], grants: Sequence[Grant]) -> list[Call]:
    """Who would get a 403: nobody grants it, or somebody denies it."""
    return [
        call
        for call in dict.fromkeys(calls)
        if not any(one.allows and one.is_about(call) for one in grants)
        or any(not one.allows and one.is_about(call) for one in grants)
    ]


def unused(calls: Iterable[Call], grants: Iterable[Grant]) -> list[Grant]:
    """What is granted and nobody needs."""
    calls = list(calls)
    return [one for one in grants if one.allows and not any(map(one.is_about, calls))]


class Stack:
    """
    One stack of the template.

    Args:
        parameters: Over those of `NEEDED` and the template's own defaults.  They
            are taken as they are: a local gateway has no TLS.

    Attributes:
        resources: By logical id; those whose condition holds.
    """

    def __init__(self, **parameters: Any) -> None:
        template = expanded()
        given = {
            name: parameter.get("Default")
            for name, parameter in template["Parameters"].items()
        }
        self._parameters: dict[str, Any] = {
            name: value.split(",") if _is_list(template, name) else str(value)
            for name, value in (given | NEEDED | parameters).items()
        }
        self._template = template
        self._types = {
            name: resource["Type"] for name, resource in template["Resources"].items()
        }
        self.resources: dict[str, dict[str, Any]] = {
            name: self._resolved(resource)
            for name, resource in template["Resources"].items()
            if self._holds(resource.get("Condition"))
        }
        self.outputs: dict[str, str] = {
            name: self._resolved(output["Value"])
            for name, output in template["Outputs"].items()
            if self._holds(output.get("Condition"))
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by logical id of every resource of a type."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }

    def properties(self, name: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.resources[name].get("Properties", {})
        return properties

    def arn(self, name: str) -> str:
        kind = self._types[name]
        place = {"region": REGION, "account": ACCOUNT, "name": self._name(name)}
        return "arn:aws:" + _ARNS[kind].format(**place)

    def named(self, arn: str) -> str:
        """The logical id of what an ARN names."""
        return next(
            name
            for name in self.resources
            if self._types[name] in _ARNS and self.arn(name) == arn
        )

    def grants(self) -> list[Grant]:
        """Everything that any policy of the stack allows or denies."""
        found: list[Grant] = []
        for name, role in self.of_type("AWS::IAM::Role").items():
            trust = role["AssumeRolePolicyDocument"]
            found += _granted(trust, resource=self.arn(name))
            for policy in role.get("Policies", []):
                found += _granted(policy["PolicyDocument"], principal=name)
        for name, policy in self.of_type("AWS::IAM::ManagedPolicy").items():
            found += _granted(policy["PolicyDocument"], principal=name)
        for kind in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"):
            for policy in self.of_type(kind).values():
                found += _granted(policy["PolicyDocument"])
        for permission in self.of_type("AWS::Lambda::Permission").values():
            function = permission["FunctionName"]
            found.append(
                Grant(
                    permission["Principal"],
                    permission["Action"],
                    f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}",
                    (("ArnLike", "aws:sourcearn", permission["SourceArn"]),),
                )
            )
        return found

    def implied(self) -> Iterator[Call]:
        """What AWS itself does for the stack, which no run on a laptop shows."""
        for name, function in self.of_type("AWS::Lambda::Function").items():
            role = self.named(function["Role"])
            yield _assumed("lambda.amazonaws.com", function["Role"])
            group = function["LoggingConfig"]["LogGroup"]
            stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:1"
            yield Call(role, "logs:CreateLogStream", stream)
            yield Call(role, "logs:PutLogEvents", stream)
            (config,) = (
                one
                for one in self.of_type("AWS::Lambda::EventInvokeConfig").values()
                if one["FunctionName"] == self._name(name)
            )
            failed = config["DestinationConfig"]["OnFailure"]["Destination"]
            yield Call(role, "sqs:SendMessage", failed)
            if function["TracingConfig"]["Mode"] == "Active":
                yield Call(role, "xray:PutTraceSegments", "*")
                yield Call(role, "xray:PutTelemetryRecords", "*")
        for name, rule in self.of_type("AWS::Events::Rule").items():
            by = frozenset({("aws:sourcearn", self.arn(name))})
            for target in rule["Targets"]:
                events = "events.amazonaws.com"
                yield Call(events, "lambda:InvokeFunction", target["Arn"], by)
                queue = target["DeadLetterConfig"]["Arn"]
                yield Call(events, "sqs:SendMessage", queue, by)
        here = ("aws:sourceaccount", ACCOUNT)
        role = self.arn("MediaConvertRole")
        yield _assumed("mediaconvert.amazonaws.com", role, here)
        if "GatewayRole" in self.resources:
            yield _assumed("ec2.amazonaws.com", self.arn("GatewayRole"))

    def _name(self, name: str) -> str:
        return f"{NAME}-{name.lower()}"

    def _holds(self, condition: str | None) -> bool:
        if condition is None:
            return True
        return bool(self._resolved(self._template["Conditions"][condition]))

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [one for one in map(self._resolved, value) if one is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        for name, argument in value.items():
            if name == "Ref" or name.startswith("Fn::"):
                return self._functions[name](argument)
        every = {name: self._resolved(one) for name, one in value.items()}
        return {name: one for name, one in every.items() if one is not _NO_VALUE}

    @property
    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        """CloudFormation's, as many as the template uses."""
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda of: self._attribute(*of),
            "Fn::Sub": self._substituted,
            "Fn::Join": lambda of: of[0].join(self._resolved(of[1])),
            "Fn::If": lambda of: self._resolved(of[1 if self._holds(of[0]) else 2]),
            "Fn::Equals": lambda of: self._resolved(of[0]) == self._resolved(of[1]),
            "Fn::Not": lambda of: not self._resolved(of[0]),
        }

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in self._parameters:
            return self._parameters[name]
        if self._types[name] in _REF_IS_ARN:
            return self.arn(name)
        if self._types[name] == "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{self._name(name)}"
        return self._name(name)

    def _attribute(self, name: str, attribute: str) -> str:
        match attribute:
            case "Arn":
                return self.arn(name)
            case "DomainName":
                return DOMAIN
            case "RegionalDomainName":
                return f"{self._name(name)}.s3.{REGION}.amazonaws.com"
            case "Id" | "QueueName":
                return self._name(name)
        raise AssertionError((name, attribute))

    def _substituted(self, of: str | list[Any]) -> str:
        text, own = (of, {}) if isinstance(of, str) else of

        def value(found: re.Match[str]) -> str:
            name, _, attribute = found[1].partition(".")
            if name in own:
                return str(self._resolved(own[name]))
            if attribute:
                return self._attribute(name, attribute)
            return str(self._ref(name))

        return re.sub(r"\$\{([^}]+)\}", value, text)


def expanded() -> dict[str, Any]:
    """The template after the SAM transform; a copy of your own."""
    return copy.deepcopy(_expanded())


@functools.cache
def _expanded() -> dict[str, Any]:
    template = yaml_parse(TEMPLATE.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            # As `aws cloudformation package` leaves it.
            code = Path(resource["Properties"]["CodeUri"]).name
            resource["Properties"]["CodeUri"] = f"s3://code/{code}"
    with patch.dict(os.environ, {"AWS_DEFAULT_REGION": REGION}):
        made: dict[str, Any] = transform(
            template, {"AWS::Region": REGION}, _NoPolicies()
        )
    return made


class _NoPolicies:
    """SAM's own policies are looked up in an account; we have none of them."""

    def load(self) -> dict[str, str]:
        return {}


def _is_list(template: Mapping[str, Any], parameter: str) -> bool:
    kind: str = template["Parameters"][parameter]["Type"]
    return kind == "CommaDelimitedList"


def _assumed(service: str, role: str, *context: tuple[str, str]) -> Call:
    return Call(service, "sts:AssumeRole", role, frozenset(context))


def _granted(
    document: Mapping[str, Any], *, principal: str = "", resource: str = ""
) -> Iterator[Grant]:
    for statement in document["Statement"]:
        who = principal or statement["Principal"]
        conditions = tuple(
            (operator, key.lower(), value)
            for operator, tests in statement.get("Condition", {}).items()
            for key, value in tests.items()
        )
        for action in _several(statement["Action"]):
            for one in _several(statement.get("Resource", resource)):
                yield Grant(
                    who if isinstance(who, str) else who["Service"],
                    action,
                    one,
                    conditions,
                    allows=statement["Effect"] == "Allow",
                )


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
