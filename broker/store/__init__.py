"""What the broker keeps: the journal, the outbox, the RIS records, the audit notes and the spool of images."""
