"""DICOM without I/O: the upper layer, the DIMSE command sets, and what the broker reads and changes in a dataset."""
