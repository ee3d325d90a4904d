# SPDX-License-Identifier: Apache-2.0
"""Scenario 5. She no longer wants what she told to travel.

IOM referred her to a shelter, and the shelter, with her consent, to a clinic. In the middle of her stay she withdraws
her consent to sharing, at IOM, where she gave it. The shelter is told, tells the clinic, and confirms once the clinic
has: IOM reads how many hold something, never who. Her bed stays hers, the service goes on, and nothing new of her can
be sent to anybody by any of the three. Later she withdraws from the service as well: only then does it end.
"""

from __future__ import annotations

from adapters.consents import Consents
from schemas.plain.consent import ConsentAcknowledged
from tests.scenarios.town import Agency, Town

NAME = "Kaneza-Inventée"


def consents(agency: Agency) -> Consents:
    return Consents(agency.runner.desk, agency.runner.outbox)


def test_sharing_first_and_the_bed_stays_then_the_service(town: Town) -> None:
    iom, shelter, clinic = town["bi/iom"], town["bi/k7t4"], town["bi/health"]
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-5")
    town.settle()
    stay = shelter.thread(asked)
    consents(shelter).link(stay, "M-5")
    for type in ("referral.accepted", "referral.started"):
        shelter.draft("bi/iom", type, town.plainly(), thread=stay)
    onward = shelter.draft("bi/health", "referral.requested", town.referral(NAME, services=("Health",)), person="M-5")
    town.settle()
    care = clinic.thread(onward)
    clinic.draft("bi/k7t4", "referral.accepted", town.plainly(), thread=care)
    town.settle()

    consents(iom).withdraw("IOM-5", "sharing")
    town.settle()
    # Everybody who holds something has confirmed: the shelter itself and one behind it, whom IOM does not learn.
    [confirmed] = iom.opened("consent.acknowledged")
    assert confirmed.facts.said == ConsentAcknowledged(scope="sharing", onward_confirmed=1)
    assert all(b"health" not in item.record for item in iom.inbox())
    # Her bed and her care stay.
    assert (iom.state(stay), shelter.state(stay)) == ("in-progress", "in-progress")
    assert (shelter.state(care), clinic.state(care)) == ("accepted", "accepted")
    shelter.draft("bi/iom", "service.provided", town.served("SocialCare"), thread=stay)
    # Nothing new of her goes to anybody, with a consent from before.
    for agency, person in ((iom, "IOM-5"), (shelter, "M-5")):
        code, _ = agency.refused("bi/r5w2", "referral.requested", town.referral(NAME), person=person)
        assert code == "consent_withdrawn"
    town.settle()
    assert town["bi/r5w2"].inbox() == []

    consents(iom).withdraw("IOM-5", "service")
    town.settle()
    assert iom.state(stay) == shelter.state(stay) != "in-progress"
    assert "consent.withdrawn" in [item.type for item in shelter.inbox()]
    assert town.found(NAME) == []
    assert town.found("IOM-5", "M-5", but=("bi/iom", "bi/k7t4")) == []
