"""HL7 v2: a lazy, loss-free message, its paths, character sets, answers and MLLP framing; pure."""
