"""What Python reads before moto.

moto looks whether a message is visible and hides it in two steps, so that two calls at once are
handed the same message where its threads change in between. They change only where one waits.
"""

import sys

sys.setswitchinterval(3600)
