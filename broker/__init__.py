"""An interface broker for radiology: HL7 and DICOM in, transformed and routed by channels, with an embedded RIS."""
