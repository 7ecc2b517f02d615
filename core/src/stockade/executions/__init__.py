"""From one request to one result: forms, languages, output, verdicts, terminals."""
