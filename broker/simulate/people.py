"""Patients and staff who can only be invented, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

# No name here can be mistaken for a real person's; some need a character set.
FAMILIES = (
    "FAUXLEY", "MOCKRIDGE", "SAMPLETON", "TESTERMAN", "PROBEWITZ", "DEMOPOULOS", "EXEMPELIUS", "PLACEHOLDER", "SPECIMENSKI", "DUMMINGTON",
    "FIKTIVSEN", "MUSTERFRÄULEIN", "ÉCHANTILLON", "PRØVESEN", "NADIEZ", "INVENTADO", "O'FICTION", "VAN SCHIJN",
)  # fmt: skip
FEMALE = ("ASPIRINA", "BARIUMA", "CONTRASTIA", "DOPPLERINE", "ECHOLINA", "FLUORA", "GADOLINA", "HELIXA", "ISOCENTRA", "RÖNTGENIA")
MALE = ("APERTUS", "BUCKY", "COLLIMO", "DETECTOR", "FILTERIUS", "GANTRY", "HOUNSFIELDO", "KILOVOLT", "LARMOR", "NYQUIST")
STREETS = ("PIXEL ROW", "VOXEL LANE", "ISOCENTRE WAY", "COLLIMATOR STREET", "LEAD APRON ALLEY", "PHANTOM ROAD")
TOWNS = (("NOWHERE", "00000"), ("UTOPIA", "00001"), ("BRIGADOON", "00002"))
REFERRERS = (("9001", "REFERMAN", "INVENTA"), ("9002", "ORDERLEY", "MADEUP"), ("9003", "CONSULTOVA", "FICTA"))
RADIOLOGISTS = (("9101", "READERSON", "NEVERWAS"), ("9102", "SHADOWBOX", "IMAGINA"))


@dataclass(frozen=True, slots=True)
class Person:
    """An invented patient."""

    mrn: str
    family: str
    given: str
    birth_date: str  # YYYYMMDD
    sex: str
    address: str  # XAD
    account: str
    visit: str


def invent(random: Random, mrn: str, today: date) -> Person:
    """Return an invented patient with this medical record number."""
    sex = random.choice("FM")
    town, postcode = random.choice(TOWNS)
    born = today - timedelta(days=random.randrange(365, 34000))
    return Person(
        mrn=mrn,
        family=random.choice(FAMILIES),
        given=random.choice(FEMALE if sex == "F" else MALE),
        birth_date=f"{born:%Y%m%d}",
        sex=sex,
        address=f"{random.randrange(1, 400)} {random.choice(STREETS)}^^{town}^^{postcode}",
        account=f"ACC{mrn[3:]}",
        visit=f"VIS{mrn[3:]}",
    )
