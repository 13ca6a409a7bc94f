"""What a person keeps of one training: read by training, generation and export alike."""
