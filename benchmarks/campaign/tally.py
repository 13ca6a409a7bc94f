"""What went wrong, counted."""

import collections
import dataclasses

from processes import TRACEBACK

COLUMNS = ("lost", "crashed", "hung", "tracebacks", "executed")


@dataclasses.dataclass
class Outcome:
    """Of one trial, or of several that one process did.

    Attributes:
        kind: the row of the table.
        trials: how many there were.
        faults: (column, what happened), one for each.
        refused: of the trials, those that ended with one line.
    """

    kind: str
    trials: int = 1
    faults: list = dataclasses.field(default_factory=list)
    refused: int = 0

    def fault(self, column, what):
        self.faults.append((column, what))

    def expect(self, right, what, column="lost"):
        """Counts a fault unless all is right."""
        if not right:
            self.fault(column, what)
        return right

    def ended(self, process, codes=(0,)):
        """Counts what is wrong with the end of a process; returns whether it ended well.

        Args:
            process: `Process` that was waited for.
            codes: exit codes that are right. 1 and 2 go with one line on stderr.
        """
        what = f"{process.command}: exit code {process.code}: {process.errors[-1500:]}"
        if process.hung:
            self.fault("hung", what)
        elif TRACEBACK in process.errors:
            self.fault("tracebacks", what)
        elif process.code < 0 or process.code > 2:
            self.fault("crashed", what)
        elif process.code not in codes:
            self.fault("lost", what)
        elif process.code and not is_one_line(process.errors):
            self.fault("tracebacks", f"not one line: {what}")
        else:
            return True
        return False


def is_one_line(errors):
    """Whether stderr holds one line of ours, after any warnings."""
    lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    return len(lines) == 1 and lines[0].startswith("error: ")


def table(outcomes):
    """The table, in Markdown, and whether all is zero."""
    kinds = collections.defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.kind].append(outcome)
    lines = ["| kind | trials | " + " | ".join(COLUMNS) + " |", "|---" + "|--:" * 6 + "|"]
    for kind, of_kind in kinds.items():
        counts = collections.Counter(column for o in of_kind for column, _ in o.faults)
        cells = [sum(o.trials for o in of_kind), *(counts[column] for column in COLUMNS)]
        lines.append(f"| {kind} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines), not any(outcome.faults for outcome in outcomes)
