"""Test data: a provider 'broken'."""

import a_module_that_is_not_there
