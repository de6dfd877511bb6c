"""Reports and prompts: cleaning, language, English by a term table, sentences made from labels."""
