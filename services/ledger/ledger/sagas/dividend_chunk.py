"""The dividend chunk saga: some lines of a declared run are posted, or returned to savings."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.dividends import ChunkKind, Destination, Line, PostDividends
from messages.ledger import DividendChunkPosted
from messages.members import DividendChunkReleased


def post(event: DividendChunkReleased, step: str) -> PostDividends:
    """Return what a chunk books. Raises ValueError for a kind or a destination that is none of ours."""
    return PostDividends(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        run_id=event.run_id,
        currency=event.currency,
        kind=ChunkKind(event.kind),
        lines=tuple(
            Line(
                line_id=each.line_id,
                member_id=each.member_id,
                destination=Destination(each.destination),
                gross_minor=each.gross_minor,
                tax_minor=each.tax_minor,
                net_minor=each.net_minor,
            )
            for each in event.lines
        ),
    )


POSTING = sacco_trigger(saga="dividend_chunk", on=DividendChunkReleased, read=post, succeeds_with=DividendChunkPosted)
