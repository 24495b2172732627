"""One loaded version at work: a request's arrays through session.run, by themselves or in a batch."""
