"""Signal processing: repair, quality, simulation. Arrays in, arrays out, vectorised."""
