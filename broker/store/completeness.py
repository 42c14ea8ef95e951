"""The exams whose images are to be looked at again, and how far the deliveries of their images have come."""

from __future__ import annotations

from broker.store.engine import Transaction


def due(tx: Transaction, now: float, most: int) -> list[tuple[int, str]]:
    """Return the exams, by id, with the state of their images, whose time has come; those first that have waited longest."""
    sql = "select exam_id, state from completeness where due_at > 0 and due_at <= ? order by due_at, id limit ?"
    return [(row[0], row[1]) for row in tx.all(sql, (now, most))]


def deliveries(tx: Transaction, exam_id: int) -> tuple[tuple[str, bool], ...]:
    """Return the destinations that the exam's images are sent to, each with whether it has taken all of them."""
    sql = """
        select d.destination, sum(case when d.state = 'delivered' then 0 else 1 end)
          from instances i join delivery d on d.message_id = i.message_id
         where i.exam_id = ? and d.kind = 'C-STORE'
         group by d.destination order by d.destination"""
    return tuple((row[0], not row[1]) for row in tx.all(sql, (exam_id,)))


def sender(tx: Transaction, exam_id: int) -> tuple[str, str]:
    """Return the calling AE title that the exam's last image came from, and its study; "" when there is none."""
    row = tx.one("select station, study_uid from instances where exam_id = ? order by id desc limit 1", (exam_id,))
    return (row[0], row[1]) if row else ("", "")
