"""Chapter 6: interventions for fairer networks, and whether what they bring is there off the train set."""
