"""Who it is: the gallery, enrolment, matching, identity over time."""
