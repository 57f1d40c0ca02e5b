"""A prepared set and settings in, trained weights out: order, crops, schedule, step, loop, log."""
