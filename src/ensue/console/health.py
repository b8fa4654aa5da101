"""One sentence that says whether all is well, and if not, what is wrong and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from ensue.app import App
from ensue.app.judging import COUNTED, Problem, judge
from ensue.app.telling import count
from ensue.console.pulse import Beat


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """What mends it: a page to go to, or an action to carry out."""

    label: str
    page: str | None = None
    action: str | None = None
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A problem, as this visitor is told of it."""

    level: Literal["wrong", "note"]
    what: str
    mend: str
    """What to do where no button can."""
    button: Button | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the application is."""

    sentence: str
    problems: list[Told]
    """What is wrong first."""

    @property
    def level(self) -> Literal["well", "wrong", "note"]:
        """The worst of the problems."""
        return self.problems[0].level if self.problems else "well"


def health_of(app: App, beat: Beat, *, payloads: bool) -> Health:
    """Say how the application is; without `payloads` nothing of what errors say."""
    found = judge(app, beat.facts, most=COUNTED)
    problems = [_told(each, payloads=payloads) for each in sorted(found, key=lambda each: each.level == "note")]
    return Health(sentence=_sentence(beat, problems), problems=problems)


def _sentence(beat: Beat, problems: list[Told]) -> str:
    if not problems:
        return _well(beat)
    first, more = problems[0], len(problems) - 1
    beside = f" And {count(more, 'more thing')}, below." if more else ""
    return f"{'' if first.level == 'wrong' else 'Nothing is wrong. '}{first.what}{beside}"


def _well(beat: Beat) -> str:
    waiting, seen = beat.facts.waiting, beat.facts.seen
    workers, names = count(len(beat.facts.workers), "worker"), count(len(seen), "subscription")
    if not seen:
        return "All is well: there is no subscription yet, so nothing has to follow."
    if not waiting:
        return f"All is well: {workers} alive, {names}, and everything that was recorded is handled."
    return f"All is well: {workers} alive, {names}, {count(waiting, 'event')} on their way."


def _told(problem: Problem, *, payloads: bool) -> Told:
    what = problem.whole if payloads else problem.what
    named = problem.subscription is not None and what.startswith(problem.subscription)
    commands = {"migrate": "register it: ensue migrate", "run": "start one: ensue run"}
    mend = problem.advice or commands.get(problem.cure or "", "")
    return Told(
        level=problem.level,
        what=_ended(what if named else _begun(what)),
        mend=_ended(_begun(mend)),
        button=_button(problem),
    )


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _ended(text: str) -> str:
    return text if not text or text.endswith((".", "…")) else text + "."


def _button(problem: Problem) -> Button | None:
    name = problem.subscription or ""
    asked = urlencode({"subscription": name})
    match problem.cure:
        case "letters":
            return Button(label="Look at them", page=f"/dead?{asked}")
        case "retries":
            return Button(label="Look at them", page=f"/dead/list?{asked}&all=1")
        case "resume":
            return Button(label=f"Resume {name}", action="resume", values=(("subscription", name),))
        case "retire":
            return Button(label=f"Look at {name}", page=f"/subscriptions/{quote(name, safe='')}")
        case "holders":
            return Button(label="Who holds it back", page="/#horizon")
        case _:
            return None
