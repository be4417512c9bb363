"""What flights features are about."""

from __future__ import annotations

from app.spec import Entity

ORIGIN = Entity("origin_airport", ("origin",), "Airport of departure: EWR, JFK or LGA.")
DESTINATION = Entity("destination_airport", ("dest",), "Airport of arrival.")
CARRIER = Entity("airline", ("carrier",), "Airline, by its two-letter code.")
ROUTE = Entity("route", ("origin", "dest"), "A pair of airports, in this direction.")
AIRCRAFT = Entity("aircraft", ("tailnum",), "One airframe, by its registration.")
