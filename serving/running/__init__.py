"""One loaded version at work: a request's arrays through session.run, alone or in a batch."""
