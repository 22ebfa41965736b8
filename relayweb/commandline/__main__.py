"""``python -m relayweb.commandline``"""

import sys

from relayweb.commandline.main import main

sys.exit(main(sys.argv[1:]))
