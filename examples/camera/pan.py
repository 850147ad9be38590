"""Make a video from photographs, for a first try: three seconds of each, while the camera moves slowly.

pan.py PHOTOGRAPH… VIDEO
"""

import sys

import cv2

FRAMES_A_SECOND = 10
FRAMES = 3 * FRAMES_A_SECOND
WIDTH, HEIGHT = 480, 360
PHOTOGRAPH_HEIGHT = 400
MOVED = 0.15
"""The share of a photograph's width that the camera passes."""


def main(photographs, video):
    """Write `video`."""
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"mp4v"), FRAMES_A_SECOND, (WIDTH, HEIGHT))
    for photograph in photographs:
        image = cv2.imread(photograph)
        if image is None:
            sys.exit(f"OpenCV cannot read the photograph {photograph!r}")
        scale = PHOTOGRAPH_HEIGHT / image.shape[0]
        image = cv2.resize(image, None, fx=scale, fy=scale)
        for frame in range(FRAMES):
            moved = frame / FRAMES
            x, y = int((image.shape[1] - WIDTH) * MOVED * moved), int((image.shape[0] - HEIGHT) * moved)
            writer.write(image[y : y + HEIGHT, x : x + WIDTH])
    writer.release()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:-1], sys.argv[-1])
