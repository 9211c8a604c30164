"""Files of any content: read from untrusted sources, replaced as a whole or not at all."""
