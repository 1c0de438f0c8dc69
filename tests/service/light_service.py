"""A service in a process of its own that answers once, and says what is loaded then: HOME PLATFORM PREDICTOR."""

import json
import sys
import urllib.request
from pathlib import Path

from leti.service.server import running
from leti.service.settings import Settings

if __name__ == "__main__":
    home, platform, predictor = sys.argv[1:]
    asked = {
        "platform_ids": [platform],
        "encodings": {"space": "nasbench201", "vectors": [[3, 1, 2, 4, 3, 0]]},
        "predictor_id": int(predictor),
    }
    with running(Settings(Path(home), auth=False)) as url:
        request = urllib.request.Request(
            f"{url}/v1/predictions", json.dumps(asked).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            (item,) = json.load(answer)["platforms"][0]["items"]
    print(item["source"], item["predictor"], *{name.partition(".")[0] for name in sys.modules})
