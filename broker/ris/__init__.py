"""The radiology information system as pure rules: requests move patients, orders, exams, reports and charges, and tell events."""
