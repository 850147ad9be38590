"""The fold of totals-only mode, in which no person is stored. Pure."""

from collections.abc import Iterable

from emotion_daemon.rules.clock_fallback import Placed
from emotion_daemon.rules.fold import NO_STATE, Fold, Folded, Report, StoredState
from shared.batch import Batch


def fold_totals(batches: Iterable[Batch], state: StoredState = NO_STATE) -> Folded:
    """As `fold`, but a batch that is not newer than its device's newest adds nothing.

    Only the device's timestamp tells that a batch was counted already: it came twice, or another daemon on the same
    database was faster.
    """
    folding = TotalsFold(state)
    for batch in batches:
        folding.add_once(folding.place(batch))
    return folding.result()


class TotalsFold(Fold):
    """Folds each batch once."""

    def __init__(self, state: StoredState) -> None:
        super().__init__(state)
        self._state = state

    def add_once(self, placed: Placed) -> None:
        """Fold the batch, or only remember its reports if it was counted already."""
        batch = placed.batch
        newest = self.newest(batch.device_id)
        if newest is None or batch.timestamp > newest:
            self.add(placed)
            return
        if newest == self._state.devices.get(batch.device_id):
            self._remember_reports(batch)
        self.add(placed, counts=False)

    def _remember_reports(self, batch: Batch) -> None:
        """Another daemon has counted this batch: the next one adds only what it reports beyond this one."""
        for person_id, cumulative in batch.people.items():
            key = (batch.device_id, person_id)
            report = self.people.get(key) or self._state.people.get(key)
            if report is None or report.last_seen < batch.timestamp:
                self.people[key] = Report(cumulative, batch.timestamp)
