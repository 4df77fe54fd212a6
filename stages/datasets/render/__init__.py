"""Draw videos of hands: articulated, lit, occluded, labelled, in the EgoHands layout."""
