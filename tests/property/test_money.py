"""Nobody pays twice, whatever happens in whatever order: retries, clears, deaths, outages, stale workers."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import (
    CreditLimitError,
    DestinationError,
    GptImageError,
    LedgerError,
    RecordMissingError,
    SubmissionUnknownError,
)
from airflow_gpt_image.events import Submitted
from tests.money_api import png
from tests.money_worker import Trouble, Worker
from tests.money_world import Author, World

TEAPOT, BICYCLE = ImageRequest(prompt="a teapot"), ImageRequest(prompt="a bicycle")
LARGE = ImageRequest(prompt="a teapot", resolution="2k")

POINTS = {"store get": 2, "store set": 4, "folder list": 2, "folder read": 3, "folder write": 4, "POST": 1}
POINTS |= {"GET": 1, "download": 1}
points = st.sampled_from(
    [
        f"{when} {what} {n + 1}"
        for what, most in POINTS.items()
        for n in range(most)
        for when in ("before", "after")
    ]
)
answers = st.sampled_from(
    ["accepted"] * 4 + ["slow", "later", "refused", "never left", "lost", "lost before", "odd", "twice"]
)
endings = st.sampled_from(["completed"] * 3 + ["failed", "fails at once", "runs on"])
plain_tries = st.fixed_dictionaries(
    {
        "happening": st.sampled_from(["retry"] * 3 + ["clear"] * 2 + ["fails early"]),
        "request": st.sampled_from([TEAPOT, TEAPOT, BICYCLE, LARGE]),
        "answer": answers,
        "ending": endings,
        "waits_here": st.booleans(),
        "pause": st.sampled_from([1.0, 1.0, 500.0]),
    }
)
troubles = st.one_of(
    st.just(Trouble()),
    st.builds(Trouble, at=points, kind=st.sampled_from(["die", "die", "fail", "clear"])),
    st.builds(
        Trouble,
        at=points,
        kind=st.sampled_from(["store", "folder", "both"]),
        seconds=st.sampled_from([20.0, 120.0, 120.0, 400.0]),
    ),
    st.builds(
        Trouble, at=points, kind=st.just("freeze"), tries=st.lists(plain_tries, min_size=1, max_size=2)
    ),
)

shifts = st.sampled_from(["longer", "longer", "shorter", "reversed"])
indexes = st.integers(0, 3)
mapped_tries = st.fixed_dictionaries(
    {
        "happening": st.sampled_from(["retry"] * 4 + ["clear", "fails early"]),
        "answer": answers,
        "ending": endings,
        "waits_here": st.booleans(),
        "pause": st.sampled_from([1.0, 1.0, 500.0]),
    }
)
meanwhile = st.lists(
    st.builds(lambda each, index: each | {"map_index": index}, mapped_tries, indexes), min_size=1, max_size=2
)
mapped_troubles = st.one_of(
    st.just(Trouble()),
    st.builds(Trouble, at=points, kind=st.sampled_from(["die", "fail"])),
    st.builds(Trouble, at=points, kind=st.sampled_from(["freeze", "shift"]), how=shifts, tries=meanwhile),
    st.builds(Trouble, at=points, kind=st.sampled_from(["store", "folder", "both"]), seconds=st.just(120.0)),
)


class Money(RuleBasedStateMachine):
    """
    The real attempt and the real ledger between a model of Airflow, a destination and the API's books.

    Promised, and checked at every POST and after every step:

    - A request has at most one charge that wasn't refunded. ``regenerate`` allows one more for each clear,
      ``resubmit`` one more for each intent whose outcome nobody knows.
    - An id that a worker got and lived on with is in the store or in the folder.
    - ``max_credits`` bounds what is kept of the charges between two clears that show.
    - What an attempt returns is what was asked for, and a file at the destination is its image.
    - Where nothing was emptied by hand, a try without trouble finds nothing missing.

    Excluded, for nothing can know it:

    - A record that was in one place only when a person (or a clear that can't be told, since the DAG's
      ``retries`` were raised by just the last try's number) emptied that place. It is the record that is
      excused, not the task: all others count. After a clear that can be told, nothing is paid where both
      places are empty.
    - An id for which the store was the only place, when its worker had been replaced, or no place could be
      written for longer than the ledger insists: it is in the log, and its intent on record.
    """

    world: World | None = None

    def check(self, worker: Worker, trouble: Trouble) -> None:
        world = self.world
        if worker.result is not None:
            charge = next(c for c in world.charges if c.id == worker.result["generation_id"])
            assert charge.request == worker.request
            assert worker.posted is None or worker.result["reused"] is not worker.posted
            for image in worker.result["images"]:
                if image["path"] is not None:
                    assert world.files[image["path"].removeprefix("memory://images/")] == png(charge.id)
        if worker.error is not None and trouble.at == "nowhere" and not world.tampered:
            self.check_error(worker, worker.error)

    def check_error(self, worker: Worker, error: GptImageError) -> None:
        """A try without trouble ends well, or with what the API said, or with the author's own bounds."""
        world = self.world
        away = world.clock.elapsed() < max(world.store_back, world.folder_back)
        if isinstance(error, (LedgerError, DestinationError)):
            # An intent that other runs shall find is in the sidecar alone, and so is an id that a folder was
            # away for too long to take: its own name is missing there.
            alone = world.author.reuse_destination and world.was_away_long
            assert away or alone, error
        if isinstance(error, RecordMissingError):
            assert worker.found_nothing
        if isinstance(error, CreditLimitError):
            assert world.author.max_credits is not None
        if isinstance(error, SubmissionUnknownError):
            assert world.workers

    @invariant()
    def nobody_pays_twice(self):
        world = self.world
        if world is None:
            return
        kept = Counter(c.key.fingerprint for c in world.charges if c.kept and c.key not in world.excused)
        clears = sum(instance.clears for instance in world.instances.values())
        for identity, count in kept.items():
            words = clears * world.author.regenerates
            if world.author.on_unknown_submit == "resubmit":
                words += len(world.doubts.get(identity, ()))
            assert count <= 1 + words

    @invariant()
    def what_was_on_record_stays_there(self):
        if self.world is None:
            return
        assert {c.id for c in self.world.charges if c.told and c.kept} <= self.world.ids_on_record()

    @invariant()
    def no_submit_is_told_twice(self):
        if self.world is None:
            return
        told = [event.generation_id for event in self.world.events if isinstance(event, Submitted)]
        assert len(set(told)) == len(told)

    @invariant()
    def max_credits_is_not_exceeded(self):
        if self.world is None or self.world.author.max_credits is None:
            return
        kept: Counter[tuple[int, int]] = Counter()
        for charge in self.world.charges:
            if charge.key not in self.world.excused:
                kept[charge.key.map_index, charge.epoch] += charge.kept
        assert max(kept.values(), default=0) <= self.world.author.max_credits


class OneImage(Money):
    """A task that makes one image, of whatever its author asks for at each try."""

    @initialize(
        author=st.builds(
            Author,
            on_clear=st.sampled_from(["reuse", "reuse", "regenerate"]),
            on_unknown_submit=st.sampled_from(["fail", "fail", "resubmit"]),
            max_credits=st.sampled_from([None, None, Decimal("4.7"), Decimal("14.1")]),
            place=st.sampled_from(["destination", "destination", "records", "nowhere"]),
            reuse_destination=st.booleans(),
            waits=st.sampled_from([True, True, False]),
            reschedules=st.booleans(),
        ),
        airflow=st.sampled_from(["3.3", "3.4"]),
    )
    def the_author_decides(self, author, airflow):
        author.reuse_destination &= author.place == "destination"
        self.world = World(author, airflow=airflow)

    @rule(given=plain_tries, trouble=troubles)
    def a_try_begins(self, given, trouble):
        self.check(self.world.a_try(**given, trouble=trouble), trouble)

    @precondition(lambda self: self.world.instance().waiting)
    @rule(ending=endings, trouble=troubles)
    def the_task_is_woken(self, ending, trouble):
        self.check(self.world.wake(-1, ending=ending, trouble=trouble), trouble)

    @rule(what=st.sampled_from(["a clear", "other retries", "empty store", "empty folder", "time"]))
    def something_happens(self, what):
        world = self.world
        if what == "a clear":
            world.clear(-1)
        elif what == "other retries":
            world.change_retries()
        elif what == "time":
            world.clock.sleep(500.0)
        else:
            world.empty(what.removeprefix("empty "))


class MappedImages(Money):
    """
    A mapped task whose list is reordered, extended at its front or shortened, and cleared.

    Excluded besides: a list that changes where the store alone has the records, for a new map index can't
    know that it is one.
    """

    @initialize(
        author=st.builds(
            Author,
            on_clear=st.sampled_from(["reuse", "reuse", "regenerate"]),
            on_unknown_submit=st.sampled_from(["fail", "fail", "resubmit"]),
            place=st.sampled_from(["destination", "records"]),
        ),
        airflow=st.sampled_from(["3.3", "3.4"]),
    )
    def the_author_decides(self, author, airflow):
        self.world = World(author, airflow=airflow)

    @rule(index=indexes, given=mapped_tries, trouble=mapped_troubles)
    def an_index_is_tried(self, index, given, trouble):
        index %= len(self.world.prompts)
        self.check(self.world.a_try(**given, map_index=index, trouble=trouble), trouble)

    @rule(index=indexes, ending=endings, trouble=mapped_troubles)
    def an_index_is_woken(self, index, ending, trouble):
        if index < len(self.world.prompts) and self.world.instance(index).waiting:
            self.check(self.world.wake(index, ending=ending, trouble=trouble), trouble)

    @rule(how=shifts)
    def the_list_has_changed(self, how):
        self.world.shift(how)


class TestOneImage(OneImage.TestCase):
    settings = settings(max_examples=300, stateful_step_count=20)


class TestMappedImages(MappedImages.TestCase):
    settings = settings(max_examples=300, stateful_step_count=20)
