"""Training on pictures one did not collect: augmentations that defuse poison, and attacks to rehearse with."""
