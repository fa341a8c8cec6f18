"""The parts of a ship: what was shipped, runs, names, and the records that tell of it."""
