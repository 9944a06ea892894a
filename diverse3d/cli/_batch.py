"""The command `batch`: many faces, each a result folder under the hash of its content, whatever happens in between."""

import collections
import dataclasses
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from tyro.conf import Positional, arg

from .._errors import InputError, spelt_out
from ._complete import Complete, CompleteSettings
from ._console import say

if TYPE_CHECKING:
    from ..observe import Observation
    from ._batch_inputs import Entry

SETTINGS_NAME, RESULTS, ASIDE = "batch.json", "results", "aside"
_AHEAD, _BEHIND = 2, 2
"""Inputs that wait, looked at, for the device per thread; and results that wait to be written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch(CompleteSettings):
    """Many faces in, a result folder for each out. What is finished stays: the same command again goes on."""

    inputs: Positional[tuple[Path, ...]]
    """Folders of photos, scans and meshes; lists (.txt, .lst: a file a line, perhaps a tab and its mask); .tar
    files; or single files. NAME.mask.png beside NAME.jpg is its mask."""
    out: Path
    """Folder to write: new, empty, or of the same batch before."""
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Do the I-th of N parts, by the hash of what is given: N such runs together do everything once, in one folder."""
    readers: int = 2
    """Threads that read and look at inputs ahead of the device."""
    retry: bool = False
    """Try again what an earlier run set aside."""

    @property
    def left(self) -> str:
        """What an interruption leaves."""
        return "what is finished stays, and the same command goes on from there"

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_there

        for path in (*self.inputs, self.head, self.weights):
            if path is not None:
                check_there(path)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file; name a folder that is new, or of the same batch.")

    def part(self) -> tuple[int, int]:
        """Which part of how many; raises `InputError` for what is none."""
        if self.shard is None:
            return 1, 1
        words = self.shard.split("/")
        if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 8 for word in words):
            number, count = int(words[0]), int(words[1])
            if 1 <= number <= count:
                return number, count
        raise InputError(f"--shard {self.shard} is no part; give I/N with I from 1 to N, as in 3/8.")

    def job(self, content: str, given: Path, mask: Path | None) -> Complete:
        """The very command that completes one input."""
        same = {field.name: getattr(self, field.name) for field in dataclasses.fields(CompleteSettings)}
        seed = derived_seed(self.seed, content)
        return Complete(**same | {"seed": seed, "input": given, "mask": mask, "out": self.out / RESULTS / content})

    def run(self) -> int:
        """Read ahead, complete, write behind; then the table."""
        from ..files import locked
        from ..head import load_head
        from ._batch_inputs import entries

        self.check_paths()
        number, count = self.part()
        self.job("", Path("photo.png"), None).check_settings()
        if self.readers < 1:
            raise InputError(f"{self.readers} readers were asked for; ask for at least 1.")
        found = entries(self.inputs, out=self.out)
        part = "" if self.shard is None else f"{number}-of-{count}"
        with locked(self.out, part):
            head = load_head(self.head, residual=self.residual)
            work = _Work(self, head, self.chosen(head), number - 1, count)
            work.claim(alone=not part)
            work.all(found)
            return work.finish(part)


class _Looked(NamedTuple):
    """An input as far as the reading threads take it."""

    number: int
    entry: "Entry"
    content: str
    folder: Path
    job: Complete | None
    seen: "Observation | None"
    seconds: float
    state: str
    reason: str = ""


class _Work:
    """One process's part of a batch."""

    def __init__(self, batch: Batch, head: Any, name: str, index: int, count: int) -> None:
        from .._methods import get_method
        from ..fit import prepare

        self.batch, self.out, self.head, self.name, self.index, self.count = batch, batch.out, head, name, index, count
        self.whole = prepare(head)
        own = get_method(name).head(head)
        self.problem = self.whole if own is head else prepare(own)
        self.asked = self._asked()
        self.rows: dict[int, dict[str, Any]] = {}
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._busy = self._begun = self._ended = 0.0
        self._total, self._finished = 0, 0

    def _asked(self) -> dict[str, Any]:
        """All that results depend on besides their inputs."""
        from .. import show

        names = [field.name for field in dataclasses.fields(CompleteSettings) if field.name not in ("quiet", "head")]
        whole = dataclasses.asdict(self.batch)
        plain = {name: whole[name] for name in names}
        weights = self.batch.weights
        plain["weights"] = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()
        return {**plain, "method": self.name, "head_sha256": self.head.sha256, "version": show.versions()["diverse3d"]}

    @property
    def asked_sha256(self) -> str:
        """Hash of that."""
        from ..files import json_text

        return hashlib.sha256(json_text(self.asked).encode()).hexdigest()

    def claim(self, *, alone: bool) -> None:
        """Make the folder this batch's; raises `InputError` where it is another's or holds anything else."""
        from ..files import LOCK_NAME, clear_leftovers, json_text, parse_json, read_json, write_json

        path = self.out / SETTINGS_NAME
        asked = parse_json(json_text(self.asked).encode(), "the settings")
        if path.is_file():
            before = read_json(path)
            if before != asked:
                other = sorted(
                    name for name in asked if not isinstance(before, dict) or asked[name] != before.get(name)
                )
                raise InputError(
                    f"{self.out} holds a batch with other settings ({', '.join(other)}); name another folder."
                )
        elif any(
            not one.name.startswith((LOCK_NAME, SETTINGS_NAME, f".{SETTINGS_NAME}")) for one in self.out.iterdir()
        ):
            raise InputError(f"{self.out} holds files that are not a batch; name a folder that is new.")
        else:
            write_json(path, self.asked)
        results = self.out / RESULTS
        if alone and results.is_dir():  # of a part, what seems left behind may be another machine's
            for aside in results.glob(".*.part"):
                clear_leftovers(results / aside.name[1:].split(".")[0])

    def all(self, found: "list[Entry]") -> None:
        """Complete every input of this part that isn't done."""
        from ..files import temporary_folder

        self._total, self._begun = len(found), time.monotonic()
        writing: collections.deque[tuple[_Looked, Future[tuple[str, str]]]] = collections.deque()
        with temporary_folder() as folder:
            reader, writer = ThreadPoolExecutor(self.batch.readers, "read"), ThreadPoolExecutor(1, "write")
            try:
                for looked in self._ahead(reader, found, folder):
                    if looked.job is None:
                        self._note(looked, looked.state, looked.reason)
                        continue
                    began = time.monotonic()
                    made = self._complete(looked)
                    self._busy += time.monotonic() - began
                    if isinstance(made, tuple):
                        self._note(looked, *made)
                        continue
                    writing.append((looked, writer.submit(made)))
                    while len(writing) > _BEHIND or (writing and writing[0][1].done()):
                        self._wrote(*writing.popleft())
                while writing:
                    self._wrote(*writing.popleft())
            finally:
                reader.shutdown(cancel_futures=True)
                writer.shutdown(cancel_futures=True)
        self._ended = time.monotonic()

    def _ahead(self, pool: ThreadPoolExecutor, found: "list[Entry]", folder: Path) -> Iterator[_Looked]:
        waiting: collections.deque[Future[_Looked]] = collections.deque()
        for number, entry in enumerate(found):
            waiting.append(pool.submit(self._look, number, entry, folder / str(number)))
            if len(waiting) > _AHEAD * self.batch.readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _look(self, number: int, entry: "Entry", folder: Path) -> _Looked:
        """Hash, decode and detect, in one of the reading threads."""
        began, unreadable = time.perf_counter(), ""
        try:
            content = entry.content()
        except InputError as error:
            content, unreadable = hashlib.sha256(f"unreadable:{entry.name}".encode()).hexdigest(), str(error)

        def so(state: str, reason: str = "") -> _Looked:
            return _Looked(number, entry, content, folder, None, None, 0.0, state, reason)

        if int(content[:16], 16) % self.count != self.index:
            return so("elsewhere")
        with self._lock:
            if content in self._known:
                return so("again")
            self._known.add(content)
        if unreadable:
            return so("refused", unreadable)
        try:
            if self._is_done(content):
                return so("there")
        except InputError as error:  # no fault of the input's, so not to be remembered
            return so("failed", str(error))
        try:
            if (before := self._aside(content)) is not None and not self.batch.retry:
                return so("refused", before)
            folder.mkdir()
            (folder / "mask").mkdir()
            mask = None if entry.mask is None else entry.mask.file(folder / "mask")
            job = self.batch.job(content, entry.given.file(folder), mask)
            job.check()
            seen = job.look(self.head)
        except InputError as error:
            return so("refused", str(error))
        except Exception as error:  # a mistake of ours in one input must not cost the others
            return so("failed", f"{type(error).__name__}: {error}")
        return _Looked(number, entry, content, folder, job, seen, time.perf_counter() - began, "")

    def _complete(self, looked: _Looked) -> Any:
        """The work that is the device's; what is left to do is a function, a failure its state and reason."""
        from .. import show

        job, seen = looked.job, looked.seen
        assert job is not None and seen is not None
        stages = show.Stages(seconds={"observe": looked.seconds})
        try:
            with stages("observe"):
                seen = job.found(seen, self.whole)
            result = job.complete(seen, self.problem, self.name, stages)
        except InputError as error:
            return "refused", str(error)
        except Exception as error:
            return "failed", f"{type(error).__name__}: {error}"
        facts = {"batch": {"name": looked.entry.name, "content": looked.content, "asked": self.asked_sha256}}

        def write() -> tuple[str, str]:
            if not (self.out / SETTINGS_NAME).is_file():
                gone = f"{self.out} was taken away while it was written; run the same command again."
                raise InputError(gone) from FileNotFoundError()
            try:
                job.save(result, stages, facts)
            except InputError as error:
                if isinstance(error.__cause__, OSError):  # the disk's fault and not the input's
                    raise
                return "refused", str(error)
            except Exception as error:
                return "failed", f"{type(error).__name__}: {error}"
            return "done", ""

        return write

    def _wrote(self, looked: _Looked, future: Future[tuple[str, str]]) -> None:
        self._note(looked, *future.result())

    def _note(self, looked: _Looked, state: str, reason: str) -> None:
        """Keep what became of an input, and say it."""
        from ..files import write_json

        self._finished, reason = self._finished + 1, spelt_out(reason)
        aside = self.out / ASIDE / f"{looked.content}.json"
        if state in ("refused", "failed"):
            aside.parent.mkdir(exist_ok=True)
            write_json(aside, {"name": looked.entry.name, "state": state, "reason": reason})
        elif state == "done":
            aside.unlink(missing_ok=True)
        shutil.rmtree(looked.folder, ignore_errors=True)
        if state == "elsewhere":
            return
        row = {"name": looked.entry.name, "content": looked.content, "state": state, "reason": reason}
        self.rows[looked.number] = row
        if state != "there":
            left = (time.monotonic() - self._begun) / self._finished * (self._total - self._finished)
            text = f"{state}: {reason}" if reason else state
            more = f" (about {left / 60:.0f} min left)" if left >= 60 else f" (about {left:.0f} s left)"
            say(f"{self._finished} of {self._total}: {looked.entry.name}: {text}{more}", self.batch.quiet)

    def _is_done(self, content: str) -> bool:
        """Whether a result is there, complete and of these settings; raises `InputError` for another one."""
        from ..files import RECORD_NAME, read_json

        folder = self.out / RESULTS / content
        if not folder.exists():
            return False
        record = read_json(folder / RECORD_NAME) if (folder / RECORD_NAME).is_file() else {}
        settings = record.get("configuration") if isinstance(record, dict) else None
        mine = settings.get("batch") if isinstance(settings, dict) else None
        files = record.get("files") if isinstance(record, dict) else None
        sound = isinstance(mine, dict) and (mine.get("content"), mine.get("asked")) == (content, self.asked_sha256)
        if not sound or not isinstance(files, dict) or not all((folder / name).is_file() for name in files):
            raise InputError(f"{folder} is not as it was written, and is neither used nor replaced; move it elsewhere.")
        return True

    def _aside(self, content: str) -> str | None:
        """Why an earlier run refused an input; None where none did, or where it failed for another reason."""
        from ..files import read_json

        path = self.out / ASIDE / f"{content}.json"
        table: Mapping[str, Any] = read_json(path) if path.is_file() else {}
        return str(table["reason"]) if isinstance(table, dict) and table.get("state") == "refused" else None

    def finish(self, part: str) -> int:
        """Write the table, say what became of everything, and return the exit code."""
        from .. import show

        states = collections.Counter(row["state"] for row in self.rows.values())
        seconds, done, there = self._ended - self._begun, states["done"], states["there"]
        share = self._busy / seconds if done and seconds else None
        facts = {"seconds": seconds, "device_share": share, "part": part or None}
        page = show.write_batch(self.out, [row for _, row in sorted(self.rows.items())], facts, part)
        aside = states["refused"] + states["failed"]
        if not self.batch.quiet:
            text = f"{done + there} of {len(self.rows)} inputs are completed in {self.out} ({there} of them before"
            text += f", {aside} set aside" if aside else ""
            text += f", {states['again']} given twice" if states["again"] else ""
            text += f"; {60 * done / seconds:.1f} a minute, the device at work {100 * share:.0f} %" if share else ""
            print(spelt_out(f"{text}); look at {page}"))
        if self.rows and not done + there:
            raise InputError(f"None of the {len(self.rows)} inputs could be completed; {page} says why.")
        return 1 if states["failed"] else 0


def derived_seed(seed: int, content: str) -> int:
    """The seed of one input: of the batch's own and of the input's hash, whatever its name or place."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{content}".encode()).digest()[:4])
