"""Test data: hooks of the group stockade.plugins."""

import a_module_that_is_not_there
