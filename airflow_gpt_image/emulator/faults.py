"""The fault language: what shall go wrong, where, how often; and the register that says when it is a fault's
turn.

A fault is written as ``WHERE:KIND[=VALUE][*TIMES][;OPTION=VALUE]…``::

    submit:503*2                        the next two submits get 503 upstream_error
    submit:lost*1;match=bicycle         one whose prompt has "bicycle" is charged, and the answer lost
    get:late=3;share=0.1                every tenth poll, by chance, is answered 3 seconds late
    submit:429*3;retry_after=2          three are told to wait 2 seconds
    submit:500*1;accepted=yes           charged although the answer is a 500
    submit:gateway=504*1                charged, and a gateway answers 504 {"error": {"code": "504", …}}
    submit:gateway=502;form=type        the same with 502 {"error": {"type": "timeout"}}
    submit:gateway=504;form=envelope;status=200
                                        the same with {"code": 504, "msg": …} under 200
    submit:gateway=524;form=page;accepted=no
                                        a gateway's page, and nothing is charged
    submit:repeated_id*1;match=bicycle  charged; the answer names the id of an earlier submit of a bicycle
    generation:failed=invalid_request   every generation fails with this code
    file:truncated;after=1*1            the second download is cut
    file:close;lasts=40                 the file host is away for 40 seconds

Rules:

1. A fault meets only requests that would have got their proper answer: authenticated, valid, affordable,
   known.
2. Faults are asked in the order in which they were registered; the first that wants the request has it, and
   later ones don't see it.
3. ``lasts=SECONDS`` is how long it goes on, from the first request it meets.
4. ``after=N`` lets the first N pass, ``times=N`` (or ``*N``) is how many it meets, ``share=P`` meets each
   with probability P, ``match=TEXT`` only those whose prompt contains the text.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Final, Self

from airflow_gpt_image.emulator.fault_kinds import (
    FORMS,
    KINDS,
    PLACES,
    REDRAWN,
    count,
    header,
    is_error,
    kinds_of,
    seconds,
    status,
)

_SPEC: Final = re.compile(
    r"(?P<where>[a-z]+):(?P<kind>[\w-]+)(?:=(?P<value>.*?))?(?:\*(?P<times>\d+))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Checked when it is created.

    :param where: ``submit``, ``get``, ``credits``, ``file``, ``callback`` or ``generation``.
    :param kind: a name of the table in ``fault_kinds``, a code of the error table, or an HTTP status.
    :param value: what the kind takes.
    :param times: how many requests it meets; None meets all.
    :param after: how many it lets pass first.
    :param share: probability with which it meets each of the others, more than 0 to 1.
    :param match: meets only requests whose generation's prompt contains this.
    :param lasts: seconds after the first request it meets, from when on it meets no others; None for ever.
    :param delay: seconds before it happens. A submit that is accepted is charged before them.
    :param accepted: of a submit: whether it is accepted and charged; None as the kind has it.
    :param retry_after: the Retry-After header of an error or a gateway: seconds, ``date:SECONDS`` for an HTTP
        date so far ahead, or any text, which is sent as it is.
    :param body: of a status: the body, instead of the usual one.
    :param content_type: of a status or an image: the content type, instead of the usual one.
    :param status: of a redirect: the status instead of 307. Of a gateway: the HTTP status instead of the one
        that its answer speaks of.
    :param form: of a gateway's answer, 504 as an example: ``error``, which is the default, is ``{"error":
        {"code": "504", "message": …}}``; ``type`` is ``{"error": {"type": "timeout"}}``; ``envelope`` is
        ``{"code": 504, "msg": …}``; ``page`` is HTML.
    :raises ValueError: naming the part, its value and the rule.
    """

    where: str
    kind: str
    value: Any = None
    times: int | None = None
    after: int = 0
    share: float = 1.0
    match: str | None = None
    lasts: float | None = None
    delay: float = 0.0
    accepted: bool | None = None
    retry_after: str | None = None
    body: str | None = None
    content_type: str | None = None
    status: int | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        self._set("kind", str(self.kind).replace("-", "_"))
        self._check_kind()
        for name, read in _OPTIONS.items():
            given = getattr(self, name)
            if given is not None:
                try:
                    self._set(name, read(given))
                except ValueError as error:
                    raise ValueError(f"{self.where}:{self.kind}: {name}: {str(error).rstrip('.')}.") from None
        self._check_sense()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_kind(self) -> None:
        if self.where not in PLACES:
            raise ValueError(f"{self.where!r} is not a place for a fault; one of {', '.join(PLACES)}.")
        if is_error(self.kind, self.where):
            if self.value is not None:
                raise ValueError(f"{self.where}:{self.kind}: it takes no value, not {self.value!r}.")
            return
        if self.kind not in KINDS or self.where not in KINDS[self.kind].places:
            raise ValueError(
                f"{self.kind!r} is not a fault of {self.where}; one of {', '.join(kinds_of(self.where))}"
                + (", or a code of the error table or an HTTP status." if self.where in _ANSWERED else ".")
            )
        try:
            self._set("value", KINDS[self.kind].value(self.value))
        except ValueError as error:
            raise ValueError(f"{self.where}:{self.kind}: {str(error).rstrip('.')}.") from None

    def _check_sense(self) -> None:
        # An option without effect is a mistake that would make a test prove nothing.
        error = is_error(self.kind, self.where)
        gateway = self.kind == "gateway"
        senseless = {
            "match": self.where == "credits",
            "delay": self.where == "generation",
            "accepted": self.where != "submit",
            "retry_after": not error and not gateway,
            "body": not error,
            "content_type": not error and self.kind not in REDRAWN,
            "status": self.kind != "redirect" and not gateway,
            "form": not gateway,
        }
        for name, value in senseless.items():
            if value and getattr(self, name) not in (None, 0.0):
                raise ValueError(f"{self.where}:{self.kind}: {name} has no effect here; leave it out.")
        if self.kind == "redirect" and self.status is not None and not 300 <= self.status <= 399:
            raise ValueError(
                f"{self.where}:{self.kind}: {self.status} is not the status of a redirect, 300 to 399."
            )

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Read ``WHERE:KIND[=VALUE][*TIMES][;OPTION=VALUE]…``; a value with a ``;`` in it needs the JSON
        form.

        :raises ValueError: when it can't be read.
        """
        head, *options = spec.split(";")
        match = _SPEC.fullmatch(head.strip())
        if match is None:
            raise ValueError(
                f"{spec!r} is not a fault; write it like 'submit:503*2' or 'get:late=3;match=bicycle'."
            )
        parts: dict[str, Any] = {name: text for name, text in match.groupdict().items() if text is not None}
        for option in options:
            name, separator, text = option.partition("=")
            name = name.strip()
            if not separator or name not in _OPTIONS or name in parts:
                raise ValueError(
                    f"{spec!r}: {option!r} is not an option; one of {', '.join(_OPTIONS)}, once each."
                )
            parts[name] = text
        return cls(**parts)

    @classmethod
    def read(cls, form: object) -> Self:
        """A fault from JSON: a text as for :meth:`parse`, or an object of the fields.

        :raises ValueError: when it is neither.
        """
        if isinstance(form, str):
            return cls.parse(form)
        if not isinstance(form, Mapping) or not {"where", "kind"} <= set(form) <= _FIELDS:
            raise ValueError(
                f"{form!r} is not a fault; give a text, or an object of {', '.join(sorted(_FIELDS))}."
            )
        return cls(**form)

    def __str__(self) -> str:
        text = f"{self.where}:{self.kind}"
        if self.value not in (None, ""):
            text += f"={self.value}"
        if self.times is not None:
            text += f"*{self.times}"
        for field in fields(self):
            given = getattr(self, field.name)
            if field.name in _OPTIONS and field.name != "times" and given != field.default:
                text += f";{field.name}={'yes' if given is True else 'no' if given is False else given}"
        return text

    @property
    def books(self) -> bool:
        """Whether a submit that meets it is accepted and charged."""
        if self.accepted is not None:
            return self.accepted
        return self.kind in KINDS and KINDS[self.kind].accepted


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{value!r} is not a share, more than 0 to 1")
    return share


def _yes_or_no(value: Any) -> bool:
    if value in (True, False, "yes", "no"):
        return value in (True, "yes")
    raise ValueError(f"{value!r} is not yes or no")


def _retry_after(value: Any) -> str:
    text = header(value)
    if text.startswith("date:"):
        seconds(text.removeprefix("date:"))
    return text


def _form(value: Any) -> str:
    if value not in FORMS:
        raise ValueError(f"{value!r} is not a form; one of {', '.join(FORMS)}")
    return str(value)


_ANSWERED: Final = ("submit", "get", "credits", "file")
_FIELDS: Final = {field.name for field in fields(Fault)}
_OPTIONS: Final[dict[str, Any]] = {
    "times": count,
    "after": count,
    "share": _share,
    "match": str,
    "lasts": seconds,
    "delay": seconds,
    "accepted": _yes_or_no,
    "retry_after": _retry_after,
    "body": str,
    "content_type": header,
    "status": status,
    "form": _form,
}


class _Armed:
    def __init__(self, fault: Fault, chance: random.Random) -> None:
        self.fault = fault
        self.chance = chance
        self.seen = 0
        self.met = 0
        self.ends_at = inf

    def wants(
        self,
        now: float,
        prompt: str | None,
        completed: bool,
        earlier: Callable[[Fault], str | None],
        beforehand: bool,
    ) -> bool:
        fault = self.fault
        if now >= self.ends_at:
            return False
        if self.met >= (inf if fault.times is None else fault.times):
            return False
        if fault.match is not None and (prompt is None or fault.match not in prompt):
            return False
        kind = KINDS.get(fault.kind)
        if (kind.beforehand if kind else False) is not beforehand:
            return False
        if kind and ((kind.completed and not completed) or (kind.earlier and not earlier(fault))):
            return False
        self.seen += 1
        if self.seen <= fault.after or (fault.share < 1 and self.chance.random() >= fault.share):
            return False
        self.met += 1
        if self.met == 1 and fault.lasts is not None:
            self.ends_at = now + fault.lasts
        return True


class FaultRegister:
    """The faults that are asked for, in order.

    :param seed: what the shares are drawn from.
    :param now: seconds since 1970.
    """

    def __init__(self, seed: int, now: Callable[[], float] = time.time) -> None:
        self._seed = seed
        self._now = now
        self._armed: list[_Armed] = []
        self._at: dict[str, list[_Armed]] = {place: [] for place in PLACES}

    def add(self, fault: Fault) -> None:
        """Register behind those that are there."""
        armed = _Armed(fault, random.Random(f"{self._seed}/fault/{len(self._armed)}"))
        self._armed.append(armed)
        self._at[fault.where].append(armed)

    def clear(self) -> None:
        """Forget all."""
        self._armed.clear()
        for armed in self._at.values():
            armed.clear()

    def take(
        self,
        where: str,
        prompt: str | None = None,
        *,
        completed: bool = False,
        earlier: Callable[[Fault], str | None] = lambda fault: None,
        beforehand: bool = False,
    ) -> Fault | None:
        """The fault that this request meets, and count it; None for the proper answer.

        :param completed: of a get: whether its generation is completed.
        :param earlier: of a submit: the id of the earlier one that a fault means, if there is one.
        :param beforehand: of a callback: whether it is not due yet.
        """
        for armed in self._at[where]:
            if armed.wants(self._now(), prompt, completed, earlier, beforehand):
                return armed.fault
        return None

    def report(self) -> list[dict[str, Any]]:
        """Each fault as text, and how many requests it met."""
        return [{"fault": str(armed.fault), "met": armed.met} for armed in self._armed]
