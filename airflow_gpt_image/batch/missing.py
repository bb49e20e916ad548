"""Whether records may be missing at a destination: then nothing is paid for without the author's word.

1. What the task state store says was at the destination and isn't any more: an unmounted folder, a pod's own
   disk. It is tried again.
2. A clear of which neither the store nor the destination knows anything: Airflow 3.4 empties the store on a
   clear.
3. After a clear of a mapped task whose every index has a folder of its own, none of the rows is in the
   folder's records: the list was put in another order, and what the rows had is in other folders.

The author's word is ``reuse="never"``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeGuard

from airflow_gpt_image.batch.lease import BatchTaskState, Lease
from airflow_gpt_image.batch.options import Reuse
from airflow_gpt_image.batch.plan import NAME, Item
from airflow_gpt_image.batch.records import Identity
from airflow_gpt_image.errors import GptImageError, RecordMissingError
from airflow_gpt_image.ledger.destination import ANY, Listing, RecordsFolder, emptied_error
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.task_state import TaskStateStore
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder, open_folder

_HELD: Final = "this task's plan and the records of what it paid for"


def scope_of(payer: Payer, reuse: Reuse) -> str:
    """Return who may find a task's records: the task in its run, that until its next clear, or everybody."""
    if reuse == "destination":
        return ANY
    if reuse == "run":
        return payer.task_digest
    return hashlib.sha256(f"{payer.task_digest}/{payer.clear_epoch}".encode()).hexdigest()[:12]


def check_plan_is_there(folder: Folder, found: BatchTaskState | None) -> None:
    """
    Refuse a destination that held this task's plan and holds none now.

    :param found: what the task state store says.
    :raises DestinationError: then.
    """
    if _was_at(found, folder) and found.published and folder.size(NAME) is None:
        raise emptied_error(folder.address(""), _HELD)


def check_nothing_is_missing(
    folder: Folder,
    found: BatchTaskState | None,
    items: Sequence[Item],
    payer: Payer,
    history: History,
    reuse: Reuse,
) -> bool:
    """
    Refuse to go on where a record may be missing; by listings alone.

    :param found: what the task state store says; None: nothing.
    :return: whether an attempt has noted at the destination that it was there.
    :raises DestinationError: when the destination held records and holds none now.
    :raises RecordMissingError: when the task was cleared, and nothing tells what it had paid for.
    """
    scope = scope_of(payer, reuse)
    listing = RecordsFolder(folder, scope).list()
    noted = listing.is_noted(payer)
    own = [file for file in listing.files if file.is_of(payer)]
    begins_anew = reuse == "never" and (found is None or found.clear_epoch < payer.clear_epoch)
    if not begins_anew:
        check_plan_is_there(folder, found)
        if _was_at(found, folder) and found.recorded == scope and not own:
            raise emptied_error(folder.address(""), _HELD)
    if reuse == "never" or not (history.cleared or history.maybe_cleared):
        return noted
    if found is None and not _has_trace(listing, payer, scope):
        raise _missing(
            "no record tells what it had paid for before.\nAirflow 3.4 deletes a task's state on a clear, "
            f"and {folder.address('')} shows no trace of this task."
        )
    planned = set(map(Identity.of, items))
    position = history.cleared and history.mapped and history.own_folder
    if position and own and not any(Identity.of(file) in planned for file in own):
        raise _missing(
            "none of its rows is what this map index had before.\nThe list was put in another order, it "
            "seems, and what they had is in the folders of other indexes, where it isn't looked for."
        )
    return noted


def _was_at(found: BatchTaskState | None, folder: Folder) -> TypeGuard[BatchTaskState]:
    return found is not None and found.destination == folder.address("")


def _has_trace(listing: Listing, payer: Payer, scope: str) -> bool:
    """Return whether this task was here, at any map index: its list may have been put in another order."""
    # What everybody may find is of everybody; and so is the plan, of which there is one.
    return listing.has_trace_of(payer) if scope == ANY else bool(listing.files or listing.notes)


def refuse_missing(folder: Folder, images: int) -> None:
    """
    Refuse to go on when images or records are gone that were there in this attempt.

    :raises DestinationError: when there are any.
    """
    if images:
        raise emptied_error(
            folder.address(""), f"{images:,} images of this batch, or their records", "lacks them now"
        )


def note_attempt(
    destination: object, store: TaskStateStore, payer: Payer, history: History, reuse: Reuse, log: Log
) -> None:
    """Note that an attempt was here and paid for nothing, so that a later clear can tell."""
    scope = scope_of(payer, reuse)
    try:
        lease = Lease(store, payer.clear_epoch)
        if lease.found is not None:
            return
        records = RecordsFolder(open_folder(destination), scope)
        if (history.cleared or history.maybe_cleared) and not _has_trace(records.list(), payer, scope):
            return  # earlier attempts may have paid: that is what nobody knows
        lease.release()
        records.write_note(payer)
    except GptImageError as error:
        log.warning("It could not be noted that nothing is paid for: %s", error.message)


def _missing(why: str) -> RecordMissingError:
    return RecordMissingError(
        f"This task was cleared, or may have been, and {why}\n"
        "Its images could be paid for a second time, so nothing was submitted.\n"
        "To pay for all of them, set reuse='never' and clear it again. To be spared this, give the task a "
        "destination that is the same in every try and for every map index."
    )
