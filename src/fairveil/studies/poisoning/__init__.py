"""Chapter 4: poisoned training data, and which augmentations defuse it."""
