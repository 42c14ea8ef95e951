"""An EHR, modalities, an archive and a billing system as peers, for demos, tests and load."""
