"""`sandbox doctor`: what others stumble over, each a check with evidence and a fix."""
