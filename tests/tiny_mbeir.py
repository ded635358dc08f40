"""A tiny folder in M-BEIR's layout, for tests to spoil."""
import json

TASK = 'mscoco_task0'
SECOND = 'webqa_task1'


def write(root):
  """Two tasks: text to image over three images, text to text over three."""
  image = 'mbeir_images/mscoco_images/{}.jpg'
  (root / 'mbeir_images/mscoco_images').mkdir(parents=True)
  for i in range(3):
    (root / image.format(i)).write_bytes(b'')
  pools = {
      f'{TASK}_test': [{'did': f'9:{i}', 'txt': None, 'modality': 'image',
                        'img_path': image.format(i)} for i in range(3)],
      SECOND: [{'did': f'2:{i}', 'txt': f'passage {i}', 'modality': 'text',
                'img_path': None} for i in range(3)]}
  for name, rows in pools.items():
    lines(root / f'cand_pool/local/mbeir_{name}_cand_pool.jsonl', rows)
  lines(root / 'cand_pool/global/mbeir_union_train_cand_pool.jsonl',
        [row for rows in pools.values() for row in rows])
  queries = {}
  for name, dataset in ((TASK, 9), (SECOND, 2)):
    queries[name] = [{
        'qid': f'{dataset}:{100 + i}', 'query_txt': f'question {i}',
        'query_img_path': None, 'query_modality': 'text',
        'pos_cand_list': [f'{dataset}:{i}'], 'neg_cand_list': []}
                     for i in range(2)]
    lines(root / f'query/test/mbeir_{name}_test.jsonl', queries[name])
    text(root / f'qrels/test/mbeir_{name}_test_qrels.txt', ''.join(
        f'{q["qid"]} 0 {q["pos_cand_list"][0]} 1 0\n{q["qid"]} 0 '
        f'{dataset}:2 0 0\n' for q in queries[name]))
  lines(root / 'query/union_train/mbeir_union_up_train.jsonl',
        [q for own in queries.values() for q in own])
  text(root / 'instructions/query_instructions.tsv',
       'query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\n'
       'text\timage\tMSCOCO\t9\tFind a picture.\tWhich picture?\n'
       'text\ttext\tWebQA\t2\tFind a passage.\n')
  return root


def lines(path, rows):
  text(path, ''.join(json.dumps(row) + '\n' for row in rows))


def text(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content)
