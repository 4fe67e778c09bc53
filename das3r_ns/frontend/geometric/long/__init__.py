"""Videos of more frames than are solved at once: windows, joined on the frames they share."""
